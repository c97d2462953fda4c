-- Takes what other partitions have to tell of tasks that wait for each other. Each notice may come twice.
--
-- ARGV  now, '1' if nothing may be taken before the partition is restored, how long a finished task may be kept (ms);
--       number of notices, each: what ('await' | 'ended' | 'cancel' | 'gone'), the ref here, the name of the other
--       task, and the policy and since when it is awaited, the outcome, or the status
-- Returns 'done' | 'incomplete'
-- Cost  some five commands a notice
function steps.deliver()
  if arg() == '1' and not is_restored() then return 'incomplete' end
  retention_ms = number()
  for _ = 1, number() do
    local what, ref, name, more = arg(), arg(), arg(), arg()
    if what == 'await' then
      local policy, since = more:match('^(%l) (%d+)$')
      be_awaited(ref, policy, name, tonumber(since))
    elseif what == 'ended' then
      hear_outcome(ref, name, more)
    elseif what == 'gone' then
      hear_outcome(ref, name, GONE)
    else
      cancel_dependent(ref, because(name, more))
    end
  end
  write_finished()
  leave_behind()
  return 'done'
end
