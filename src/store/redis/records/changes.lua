-- Finding tasks and changing their state; a part of the code that all steps share.

-- Returns the text of a waiting task whose entry has these fields.
local function text_of_entry(step, lane, entry, fields)
  local head_text, payload, extras, error = unpack_entry(fields)
  local again = field_of(step, KEY.again, lane.no .. '.' .. entry)
  if again then head_text, error = unpack_again(again) end
  return pack_task(head_text, extras or NO_EXTRAS, payload, error or 'null')
end

-- Finds a task. Returns its place (shared.lua) and its text; of a waiting task also its entry and lane, and of a
-- running task its progress. Returns nil if there is no such task.
local function find(step, ref)
  local prefix = step.prefix
  local finished = call('GET', prefix .. KEY.finished .. ref)
  if finished then return 'finished', finished end
  local record = field_of(step, KEY.leases, ref)
  if record then return 'running', record, field_of(step, KEY.progress, ref) or 'null' end
  local delayed = field_of(step, KEY.delayed, ref)
  if delayed then return 'delayed', delayed end
  local dependent = field_of(step, KEY.dependent, ref)
  if dependent then return 'dependent', dependent end
  local lane, entry = lane_by_ref(step, ref)
  if not lane then return nil end
  write_arrivals(step)
  local moved, group_before = field_of(step, KEY.moved, ref), ''
  if moved then entry, group_before = moved:match('^([^|]+)|?(.*)$') end
  local grouped = field_of(step, KEY.grouped, lane.no .. '.' .. entry)
  if grouped then
    local _, group = labels_in(extras_of(grouped))
    return 'waiting', grouped, entry, group_lane(lane, group)
  end
  local stream = lane.stream
  -- The previous version has put the task into a stream of its group.
  if group_before ~= '' then
    lane = group_lane(lane, group_before)
    stream = prefix .. KEY.group_stream .. lane.name .. '|' .. group_before
  end
  local item = call('XRANGE', stream, entry, entry)[1]
  if not item then return nil end
  return 'waiting', text_of_entry(step, lane, entry, item[2]), entry, lane
end

-- Changes -------------------------------------------------------------------------------------------------------------

-- Adds a ready task at the end of its lane.
local function enqueue(step, lane, ref, head_text, extras, payload, error)
  local prefix = step.prefix
  local id = entry_id(reserve(step, 1))
  local _, group = labels_in(extras)
  if group then
    local ends = wait_ends(unpack_head(head_text, lane, id))
    arrive(step, lane, group, id, pack_task(head_text, extras, payload, error), ref, ends)
    call('HSET', prefix .. KEY.moved, ref, id)
  else
    call('XADD', lane.stream, id, unpack(pack_entry(head_text, extras, payload, error)))
    call('HSET', prefix .. KEY.moved, ref, id)
    watch_waits(step, lane, queue_timeout_of(head_text))
    note_ready(step, lane, id)
  end
  wake_for(step, lane, ref)
end

-- Stores a task until its time.
local function delay(step, lane, ref, run_at, head_text, extras, payload, error)
  local prefix = step.prefix
  call('HSET', prefix .. KEY.delayed, ref, pack_task(head_text, extras, payload, error))
  call('ZADD', prefix .. KEY.due, run_at, ref)
  count(step, lane.type, 'delayed', 1)
  limits.count(step, '~', extras, 1)
  if call('ZRANGE', prefix .. KEY.due, 0, 0)[1] == ref then sweep_at(step, run_at) end
end

-- Moves delayed tasks that are due to their lanes; returns the number moved, and when the next one is due or ''.
local function promote(step, max)
  local prefix = step.prefix
  local first = call('ZRANGE', prefix .. KEY.due, 0, 0, 'WITHSCORES')
  if not first[1] or tonumber(first[2]) > step.now then return 0, first[2] or '' end
  local due = call('ZRANGEBYSCORE', prefix .. KEY.due, '-inf', step.now_text, 'LIMIT', 0, max)
  for _, ref in ipairs(due) do
    local lane = lane_by_ref(step, ref)
    local head_text, extras, payload, error = unpack_task(call('HGET', prefix .. KEY.delayed, ref))
    enqueue(step, lane, ref, head_text, extras, payload, error)
    count(step, lane.type, 'delayed', -1)
    limits.count(step, '~', extras, -1)
  end
  many('ZREM', prefix .. KEY.due, due)
  many('HDEL', prefix .. KEY.delayed, due)
  return #due, call('ZRANGE', prefix .. KEY.due, 0, 0, 'WITHSCORES')[2] or ''
end

-- Ends a task: collects its text to write, and its ref by status and retention period, for the order of removal.
local function finish(step, lane, ref, status, text)
  step.opened = step.opened - 1
  local texts, to_follow = step.finished_texts, step.to_follow
  local size = #texts
  texts[size + 1], texts[size + 2] = step.prefix .. KEY.finished .. ref, text
  local own = retention.own_ms(step, lane.type, status)
  append(step.finished_refs, own and string.format('%s %d', status, own) or status, ref)
  size = #to_follow
  to_follow[size + 1], to_follow[size + 2] = ref, text
end

-- An idempotency key is removed with its task: it lives as long as a finished task may be kept.
local function keep_key(step, key, kept_ms)
  if not key then return end
  local prefix = step.prefix
  if kept_ms then
    call('PEXPIRE', prefix .. KEY.key .. key, kept_ms)
  else
    call('PERSIST', prefix .. KEY.key .. key)
  end
end

-- Writes the tasks that ended so far, and informs the tasks that wait for them. Only then does `find` find them.
local follow
local function write_finished(step)
  follow(step)
  for from = 1, #step.finished_texts, CHUNK do
    call('MSET', unpack(step.finished_texts, from, math.min(from + CHUNK - 1, #step.finished_texts)))
  end
  for order, refs in pairs(step.finished_refs) do
    local status, own = order:match('^(%l+) ?(%d*)$')
    done.add(step, status, step.now, table.concat(refs, ' '), tonumber(own))
  end
  step.finished_texts, step.finished_refs = {}, {}
end

-- Adds the event of one task: `[status, type, worker, ref, attempts, progress, result, error, reason]`.
local function add_task_event(step, status, lane, head, progress, result, error, reason)
  event(step, 1, string.format('["%s","%s",%s,"%s",%s,%s,%s,%s,"%s"]', status, lane.type, head.worker, head.ref,
    head.attempts, progress, result, error, reason))
end

-- Removes a waiting task from its lane.
local function leave_lane(step, lane, ref, entry)
  local prefix = step.prefix
  if lane.group then
    local queue, member = prefix .. KEY.group_queue .. lane.name, lane.member_prefix .. entry
    if lone.of(step, lane) == entry then
      call('ZREM', prefix .. KEY.lone .. lane.name, lane.group)
    elseif call('ZREM', queue, member) == 0 then
      repeat until adopt_group(step, lane, CHUNK) == 0
      write_arrivals(step)
      call('ZREM', queue, member)
    end
    call('HDEL', prefix .. KEY.grouped, lane.no .. '.' .. entry)
    count(step, lane.type, 'grouped', -1)
    call('ZREM', prefix .. KEY.group_waits, ref)
  else
    call('XACK', lane.stream, WORKERS, entry)
    call('XDEL', lane.stream, entry)
    call('ZREM', lane.back, entry)
    call('HDEL', prefix .. KEY.again, lane.no .. '.' .. entry)
  end
  call('HDEL', prefix .. KEY.moved, ref)
  renew_age(step, lane, entry)
end

-- Ends a task that is not running, with an error and without a result. The caller removes it from its place.
local function end_before_start(step, lane, head, status, reason, extras, payload, error)
  local text = pack_finished(step, status, reason, head, extras, payload, error, 'null', 'null')
  finish(step, lane, head.ref, status, text)
  limits.count(step, '#', extras, -1)
  keep_key(step, labels_in(extras), retention.kept_ms(step, lane.type, status))
  count(step, lane.type, status, 1)
  call('HINCRBY', step.prefix .. KEY.history_ends, lane.type .. ' ' .. status, 1)
  add_task_event(step, status, lane, head, 'null', 'null', error, reason)
end

-- Ends a task that waited too long for its first start.
local function end_wait(step, lane, head, extras, payload)
  end_before_start(step, lane, head, 'timeout', 'queue_wait', extras, payload, WAIT_ERROR)
end

-- The value of `restoring` when the partition has everything that its log contains. The key is lost together with all
-- other keys, so its absence shows the loss.
local RESTORED = 'complete'
local function is_restored(step) return call('GET', step.prefix .. KEY.restoring) == RESTORED end
-- Schedules -----------------------------------------------------------------------------------------------------------

-- Writes a schedule and its next tick; '' means never.
local function move_schedule(step, id, text, next_at)
  local prefix = step.prefix
  call('HSET', prefix .. KEY.schedules, id, text)
  if next_at == '' then
    call('ZREM', prefix .. KEY.ticks, id)
  else
    call('ZADD', prefix .. KEY.ticks, next_at, id)
  end
end
