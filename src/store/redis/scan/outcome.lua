-- Reads the outcome of a task that a running task has waited for.
--
-- KEYS  the partition's prefix
-- ARGV  now, the ref of the running task, the fence of its lease, the name of the other task
-- Returns 'lost' if the lease is not held, '' if the running task does not wait for the other, else the outcome
--       (outcomes.lua)
-- Cost  two look-ups
function steps.outcome(step)
  local prefix = step.prefix
  local ref, fence, name = arg(step), arg(step), arg(step)
  local record = call('HGET', prefix .. KEY.leases, ref)
  if not record or fence_of(record) ~= fence then return 'lost' end
  local outcome = call('HGET', prefix .. KEY.outcomes .. ref, name)
  if outcome == '' or outcome == GONE then return FORGOTTEN end
  return outcome or ''
end
