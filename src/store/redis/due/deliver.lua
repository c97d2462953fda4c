-- Applies notices of other partitions about tasks that wait for each other. A notice may arrive twice.
--
-- KEYS  the partition's prefix
-- ARGV  now, '1' if nothing may be accepted before the partition is restored, how long a finished task may be kept
--       (ms); number of notices, each: kind ('await' | 'ended' | 'cancel' | 'gone'), the ref of the task here, the name
--       of the other task, and depending on the kind: the policy and since when the task is awaited; the outcome; or
--       the status
-- Returns 'done' | 'incomplete'
-- Cost  about five commands a notice
function steps.deliver()
  if arg() == '1' and not is_restored() then return 'incomplete' end
  retention_ms = number()
  for _ = 1, number() do
    local what, ref, name, more = arg(), arg(), arg(), arg()
    if what == 'await' then
      local policy, since = more:match('^(%l) (%d+)$')
      add_successor(ref, policy, name, tonumber(since))
    elseif what == 'ended' then
      receive_outcome(ref, name, more)
    elseif what == 'gone' then
      receive_outcome(ref, name, GONE)
    else
      cancel_dependent(ref, cancel_reason(name, more))
    end
  end
  write_finished()
  finish_step()
  return 'done'
end
