-- Counts the tasks of a batch by status, oldest first, a bounded number per call.
--
-- KEYS  the partition's prefix
-- ARGV  now, the batch, how many tasks to skip, how many to read
-- Returns {number of tasks ever accepted in the batch, {status, count, …} of the tasks read that are kept}
-- Cost  one to six look-ups a task
local function status_of(step, ref)
  local prefix = step.prefix
  local status = call('GETRANGE', prefix .. KEY.finished .. ref, 0, 9):match('^(%l+)|')
  if status then return status end
  if call('HEXISTS', prefix .. KEY.leases, ref) == 1 then return 'processing' end
  return find(step, ref) and 'pending'
end

function steps.batch(step)
  local key, from, most = step.prefix .. KEY.batch .. arg(step), number(step), number(step)
  local by_status, answer = {}, {}
  for _, ref in ipairs(call('LRANGE', key, from, from + most - 1)) do
    local status = status_of(step, ref)
    if status then by_status[status] = (by_status[status] or 0) + 1 end
  end
  for status, tasks in pairs(by_status) do
    answer[#answer + 1], answer[#answer + 2] = status, tasks
  end
  return { call('LLEN', key), answer }
end
