-- Cancels tasks, or returns finished tasks to pending.
--
-- KEYS  the partition's prefix
-- ARGV  now, grace of a cancel (ms), how long a finished task may be kept (ms), 'cancel' | 'retry', number of tasks,
--       the ref of each
-- Returns per task 'changed' | 'stopping' (a running handler was asked to stop) | 'refused' | 'unknown'
-- Cost  a look-up and about five commands a task
-- The statuses that a retry returns to pending (task/status.ts).
local retryable = RETRYABLE

local function finish_canceled(step, lane, head, x, payload, e)
  finish(step, lane, head.ref, 'canceled', finished_text(step, 'canceled', '', head, x, payload, e, 'null', 'null'))
  keep_key(step, labels_in(x), retention.kept_ms(step, lane.type, 'canceled'))
  count(step, lane.type, 'canceled', 1)
  add_task_event(step, 'canceled', lane, head, 'null', 'null', e, '')
  return 'changed'
end

local function cancel(step, ref)
  local prefix = step.prefix
  local found, text, where, part = find(step, ref)
  if not found then return 'unknown' end
  if found == 'F' then return 'refused' end
  local lane = lane_by_ref(step, ref)
  local m, x, payload, e = lines_of(text)
  if found == 'A' then
    leave_dependent(step, lane, ref)
    return finish_canceled(step, lane, head_of(m, lane), x, payload, e)
  end
  if found == 'D' then
    call('ZREM', prefix .. KEY.due, ref)
    call('HDEL', prefix .. KEY.delayed, ref)
    count(step, lane.type, 'delayed', -1)
    return finish_canceled(step, lane, head_of(m, lane), x, payload, e)
  end
  if found == 'W' then
    leave_lane(step, part, ref, where)
    return finish_canceled(step, lane, head_of(m, lane, where), x, payload, e)
  end
  local l = lease_of(text)
  if l.cancel_at == '0' then
    l.cancel_at = step.now_text
    call('HSET', prefix .. KEY.leases, ref, join_lease(l))
    local due = string.format('%d', due_of(l, step.grace_ms))
    call('ZADD', prefix .. KEY.running .. lane.type, due, ref)
    call('ZADD', prefix .. KEY.leases_due, 'LT', due, lane.type)
    read_tail(l)
    local worker = cjson.decode(l.worker)
    call('SADD', prefix .. KEY.cancels .. worker, ref .. '.' .. l.fence)
    broadcast(step, 'cancel ' .. worker)
  end
  return 'stopping'
end

local function retry(step, ref)
  local found, text = find(step, ref)
  if not found then return 'unknown' end
  local status = found == 'F' and text:match('^%l+')
  if not (status and retryable[status]) then return 'refused' end
  local lane = lane_by_ref(step, ref)
  local first, x, payload = lines_of(text)
  local deliveries, q, p, r = first:match('^%l+|[%l_]*|%d+|%d+|%d+|(%d+)|(%d+)|(%d+)|(%d+)|')
  -- The task is treated as newly submitted, but keeps its id, its age in lists and its fence.
  local head = {
    q = q, p = p, r = r, ref = ref, attempts = '0', lost = '0', deliveries = deliveries, run_at = step.now_text,
    started = '0', worker = 'null',
  }
  local again = wait_again(step, ref, x)
  if again == 'refused' then return again end
  call('DEL', step.prefix .. KEY.finished .. ref)
  note_taken_back(step, ref, status)
  keep_key(step, labels_in(x), nil)
  count(step, lane.type, status, -1)
  step.opened = step.opened + 1
  if again == 'waits' then
    depend(step, lane, ref, join_head(step, head), x, 'null', payload)
  else
    enqueue(step, lane, ref, join_head(step, head), x, 'null', payload)
  end
  add_task_event(step, 'pending', lane, head, 'null', 'null', 'null', '')
  return 'changed'
end

function steps.change(step)
  step.grace_ms, step.retention_ms = number(step), number(step)
  local change = arg(step)
  local answers = {}
  for index = 1, number(step) do
    local ref = arg(step)
    answers[index] = change == 'cancel' and cancel(step, ref) or change == 'retry' and retry(step, ref)
  end
  write_finished(step)
  finish_step(step)
  return answers
end
