-- Cancels tasks, or returns finished tasks to pending.
--
-- KEYS  the partition's prefix
-- ARGV  now, grace of a cancel (ms), how long a finished task may be kept (ms), 'cancel' | 'retry', number of tasks,
--       the ref of each
-- Returns per task 'changed' | 'stopping' (a running handler was asked to stop) | 'refused' | 'unknown'
-- Cost  a look-up and about five commands a task
local grace_ms

-- The statuses that a retry returns to pending (task/status.ts).
local retryable = RETRYABLE

local function finish_canceled(lane, head, x, payload, e)
  finish(lane, head.ref, 'canceled', finished_text('canceled', '', head, x, payload, e, 'null', 'null'))
  keep_key(labels_in(x), retention.kept_ms(lane.type, 'canceled'))
  count(lane.type, 'canceled', 1)
  add_task_event('canceled', lane, head, 'null', 'null', e, '')
  return 'changed'
end

local function cancel(ref)
  local found, text, where, part = find(ref)
  if not found then return 'unknown' end
  if found == 'F' then return 'refused' end
  local lane = lane_by_ref(ref)
  local m, x, payload, e = lines_of(text)
  if found == 'A' then
    leave_dependent(lane, ref)
    return finish_canceled(lane, head_of(m, lane), x, payload, e)
  end
  if found == 'D' then
    call('ZREM', P .. KEY.due, ref)
    call('HDEL', P .. KEY.delayed, ref)
    count(lane.type, 'delayed', -1)
    return finish_canceled(lane, head_of(m, lane), x, payload, e)
  end
  if found == 'W' then
    leave_lane(part, ref, where)
    return finish_canceled(lane, head_of(m, lane, where), x, payload, e)
  end
  local l = lease_of(text)
  if l.cancel_at == '0' then
    l.cancel_at = NOW
    call('HSET', P .. KEY.leases, ref, join_lease(l))
    local due = string.format('%d', due_of(l, grace_ms))
    call('ZADD', P .. KEY.running .. lane.type, due, ref)
    call('ZADD', P .. KEY.leases_due, 'LT', due, lane.type)
    read_tail(l)
    local worker = cjson.decode(l.worker)
    call('SADD', P .. KEY.cancels .. worker, ref .. '.' .. l.fence)
    broadcast('cancel ' .. worker)
  end
  return 'stopping'
end

local function retry(ref)
  local found, text = find(ref)
  if not found then return 'unknown' end
  local status = found == 'F' and text:match('^%l+')
  if not (status and retryable[status]) then return 'refused' end
  local lane = lane_by_ref(ref)
  local first, x, payload = lines_of(text)
  local deliveries, q, p, r = first:match('^%l+|[%l_]*|%d+|%d+|%d+|(%d+)|(%d+)|(%d+)|(%d+)|')
  -- The task is treated as newly submitted, but keeps its id, its age in lists and its fence.
  local head = {
    q = q, p = p, r = r, ref = ref, attempts = '0', lost = '0', deliveries = deliveries, run_at = NOW, started = '0',
    worker = 'null',
  }
  local again = wait_again(ref, x)
  if again == 'refused' then return again end
  call('DEL', P .. KEY.finished .. ref)
  note_taken_back(ref, status)
  keep_key(labels_in(x), nil)
  count(lane.type, status, -1)
  opened = opened + 1
  if again == 'waits' then
    depend(lane, ref, join_head(head), x, 'null', payload)
  else
    enqueue(lane, ref, join_head(head), x, 'null', payload)
  end
  add_task_event('pending', lane, head, 'null', 'null', 'null', '')
  return 'changed'
end

function steps.change()
  grace_ms, retention_ms = number(), number()
  local change = arg()
  local answers = {}
  for index = 1, number() do
    local ref = arg()
    answers[index] = change == 'cancel' and cancel(ref) or change == 'retry' and retry(ref)
  end
  write_finished()
  finish_step()
  return answers
end
