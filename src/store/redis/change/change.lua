-- Cancels tasks, or returns finished tasks to pending.
--
-- KEYS  the partition's prefix
-- ARGV  now, grace of a cancel (ms), how long a finished task may be kept (ms), 'cancel' | 'retry', number of tasks,
--       the ref of each
-- Returns per task 'changed' | 'stopping' (a running handler was asked to stop) | 'refused' | 'unknown'
-- Cost  a look-up and about five commands a task
-- The statuses that a retry returns to pending (task/status.ts).
local retryable = RETRYABLE

local function cancel_waiting(step, lane, head, extras, payload, error)
  end_before_start(step, lane, head, 'canceled', '', extras, payload, error)
  return 'changed'
end

local function cancel(step, ref)
  local prefix = step.prefix
  local found, text, where, part = find(step, ref)
  if not found then return 'unknown' end
  if found == 'finished' then return 'refused' end
  local lane = lane_by_ref(step, ref)
  local head_text, extras, payload, error = unpack_task(text)
  if found == 'dependent' then
    flows.leave_dependent(step, lane, ref, extras)
    return cancel_waiting(step, lane, unpack_head(head_text, lane), extras, payload, error)
  end
  if found == 'delayed' then
    call('ZREM', prefix .. KEY.due, ref)
    call('HDEL', prefix .. KEY.delayed, ref)
    count(step, lane.type, 'delayed', -1)
    limits.count(step, '~', extras, -1)
    return cancel_waiting(step, lane, unpack_head(head_text, lane), extras, payload, error)
  end
  if found == 'waiting' then
    leave_lane(step, part, ref, where)
    return cancel_waiting(step, lane, unpack_head(head_text, lane, where), extras, payload, error)
  end
  local lease = unpack_lease(text)
  if lease.cancel_at == '0' then
    lease.cancel_at = step.now_text
    call('HSET', prefix .. KEY.leases, ref, pack_lease(lease))
    local due = string.format('%d', due_of(lease, step.grace_ms))
    call('ZADD', prefix .. KEY.running .. lane.type, due, ref)
    call('ZADD', prefix .. KEY.leases_due, 'LT', due, lane.type)
    local worker = cjson.decode(unpack_tail(ref, lease).worker)
    call('SADD', prefix .. KEY.cancels .. worker, ref .. '.' .. lease.fence)
    broadcast(step, 'cancel ' .. worker)
  end
  return 'stopping'
end

local function retry(step, ref)
  local found, text = find(step, ref)
  if not found then return 'unknown' end
  local ended = found == 'finished' and unpack_finished(text)
  if not (ended and retryable[ended.status]) then return 'refused' end
  local lane = lane_by_ref(step, ref)
  local extras = ended.extras
  -- The task is treated as newly submitted, but keeps its id, its age in lists and its fence.
  local head = {
    queue_timeout_ms = ended.queue_timeout_ms, process_timeout_ms = ended.process_timeout_ms,
    max_retry = ended.max_retry, ref = ref, attempts = '0', lost_leases = '0', deliveries = ended.deliveries,
    run_at = step.now_text, started_at = '0', worker = 'null',
  }
  local again = flows.wait_again(step, ref, extras)
  if again == 'refused' then return again end
  attempts.keep_last(step, ref, text)
  local payload = payloads.take_back(step, ref, ended.payload)
  call('DEL', step.prefix .. KEY.finished .. ref)
  done.note_taken_back(step, ref, ended.status)
  keep_key(step, labels_in(extras), nil)
  count(step, lane.type, ended.status, -1)
  step.opened = step.opened + 1
  limits.count(step, '#', extras, 1)
  if again == 'waits' then
    flows.depend(step, lane, ref, pack_head(step, head), extras, payload, 'null')
  else
    enqueue(step, lane, ref, pack_head(step, head), extras, payload, 'null')
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
