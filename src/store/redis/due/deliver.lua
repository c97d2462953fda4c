-- Applies messages of other partitions about tasks that wait for each other. A message may arrive twice.
--
-- KEYS  the partition's prefix
-- ARGV  now, '1' if nothing may be accepted before the partition is restored, how long a finished task may be kept
--       (ms); number of messages, each: kind ('await' | 'ended' | 'cancel' | 'gone'), the ref of the task here, the
--       name of the other task, and depending on the kind: the policy and since when the task is awaited; the outcome;
--       or the status
-- Returns 'done' | 'incomplete'
-- Cost  about five commands a message
function steps.deliver(step)
  if arg(step) == '1' and not is_restored(step) then return 'incomplete' end
  step.retention_ms = number(step)
  for _ = 1, number(step) do
    local kind, ref, name, more = next_args(step, 4)
    if kind == 'await' then
      local policy, since = more:match('^(%l) (%d+)$')
      flows.add_successor(step, ref, policy, name, tonumber(since))
    elseif kind == 'ended' then
      flows.receive_outcome(step, ref, name, more)
    elseif kind == 'gone' then
      flows.receive_outcome(step, ref, name, GONE)
    else
      flows.cancel_dependent(step, ref, flows.cancel_reason(name, more))
    end
  end
  write_finished(step)
  finish_step(step)
  return 'done'
end
