-- Finding tasks and changing their state; a part of the code that all steps share.

-- Returns head, extras, payload and previous error of a text.
local function lines_of(text) return text:match('^([^\n]*)\n([^\n]*)\n([^\n]*)\n([^\n]*)') end

-- Finds a task. Returns a letter for its place and its text; for W also its entry and lane, for L its progress. Returns
-- nil if there is no such task.
local function find(step, ref)
  local prefix = step.prefix
  local finished = call('GET', prefix .. KEY.finished .. ref)
  if finished then return 'F', finished end
  local record = call('HGET', prefix .. KEY.leases, ref)
  if record then return 'L', record, call('HGET', prefix .. KEY.progress, ref) or 'null' end
  local delayed = call('HGET', prefix .. KEY.delayed, ref)
  if delayed then return 'D', delayed end
  local dependent = call('HGET', prefix .. KEY.dependent, ref)
  if dependent then return 'A', dependent end
  local lane, entry = lane_by_ref(step, ref)
  if not lane then return nil end
  write_arrivals(step)
  local moved, group_before = call('HGET', prefix .. KEY.moved, ref), ''
  if moved then entry, group_before = moved:match('^([^|]+)|?(.*)$') end
  local grouped = call('HGET', prefix .. KEY.grouped, lane.no .. '.' .. entry)
  if grouped then
    local _, x = lines_of(grouped)
    local _, group = labels_in(x)
    return 'W', grouped, entry, group_lane(lane, group)
  end
  local stream = lane.stream
  -- The previous version has put the task into a stream of its group.
  if group_before ~= '' then
    lane = group_lane(lane, group_before)
    stream = prefix .. KEY.group_stream .. lane.name .. '|' .. group_before
  end
  local fields = entry_of(stream, entry)
  if not fields then return nil end
  local head, e = fields.m, fields.e or 'null'
  local again = call('HGET', prefix .. KEY.again, lane.no .. '.' .. entry)
  if again then head, e = again:match('^([^\n]*)\n(.*)$') end
  return 'W', table.concat({ head, fields.x or NO_EXTRAS, fields.p, e }, '\n'), entry, lane
end

-- Returns a text without the parts that may be long.
local function bare_text(text) return (text:match('^[^\n]*\n[^\n]*')) .. '\nnull' end

-- Changes -------------------------------------------------------------------------------------------------------------

-- Adds a ready task at the end of its lane.
local function enqueue(step, lane, ref, m, x, e, payload)
  local prefix = step.prefix
  local id = entry_id(reserve(step, 1))
  local _, group = labels_in(x)
  if group then
    local ends = wait_ends(head_of(m, lane, id))
    arrive(step, lane, group, id, table.concat({ m, x, payload, e }, '\n'), ref, ends)
    call('HSET', prefix .. KEY.moved, ref, id)
  else
    local fields = { 'm', m, 'p', payload }
    if x ~= NO_EXTRAS then
      fields[#fields + 1] = 'x'
      fields[#fields + 1] = x
    end
    if e ~= 'null' then
      fields[#fields + 1] = 'e'
      fields[#fields + 1] = e
    end
    call('XADD', lane.stream, id, unpack(fields))
    call('HSET', prefix .. KEY.moved, ref, id)
    watch_waits(step, lane, m:match('^%d+'))
    note_ready(step, lane, id)
  end
  wake(step, lane.type, 1)
end

-- Stores a task until its time.
local function delay(step, lane, ref, run_at, m, x, e, payload)
  local prefix = step.prefix
  call('HSET', prefix .. KEY.delayed, ref, table.concat({ m, x, payload, e }, '\n'))
  call('ZADD', prefix .. KEY.due, run_at, ref)
  count(step, lane.type, 'delayed', 1)
  if call('ZRANGE', prefix .. KEY.due, 0, 0)[1] == ref then broadcast(step, 'due ' .. run_at) end
end

-- Moves delayed tasks that are due to their lanes; returns the number moved, and when the next one is due or ''.
local function promote(step, max)
  local prefix = step.prefix
  local first = call('ZRANGE', prefix .. KEY.due, 0, 0, 'WITHSCORES')
  if not first[1] or tonumber(first[2]) > step.now then return 0, first[2] or '' end
  local due = call('ZRANGEBYSCORE', prefix .. KEY.due, '-inf', step.now_text, 'LIMIT', 0, max)
  for _, ref in ipairs(due) do
    local lane = lane_by_ref(step, ref)
    local m, x, payload, e = lines_of(call('HGET', prefix .. KEY.delayed, ref))
    enqueue(step, lane, ref, m, x, e, payload)
    count(step, lane.type, 'delayed', -1)
  end
  many('ZREM', prefix .. KEY.due, due)
  many('HDEL', prefix .. KEY.delayed, due)
  return #due, call('ZRANGE', prefix .. KEY.due, 0, 0, 'WITHSCORES')[2] or ''
end

-- How long finished tasks are kept.
local retention = {}

-- Returns how long (ms) a task that ends in a status is kept if its type sets it, else nil. In a cluster, tasks of
-- other partitions may have begun to wait for the task; the messages about them arrive a few steps later, so it is kept
-- at least that long.
function retention.own_ms(step, kind, status)
  local own = step.retention_of_types[kind]
  if own == nil then
    local text = call('HGET', step.prefix .. KEY.retention, kind)
    own = text and cjson.decode(text)
    step.retention_of_types[kind] = own
  end
  local kept = own and (own.set[status] or own.handler[status])
  return kept and math.max(kept, CLUSTER and 10000 or 0)
end

-- The same for an idempotency key; `ended_for` is the time since its task ended.
function retention.kept_ms(step, kind, status, ended_for)
  return math.max((retention.own_ms(step, kind, status) or step.retention_ms) - (ended_for or 0), 1)
end

-- Adds tasks that ended at a time to the order of their status, and to the order of removal.
function retention.add_done(step, status, ended_at, refs, own)
  local prefix = step.prefix
  local time = string.format('%d', ended_at)
  if not own then return call('XADD', prefix .. KEY.done .. status, '*', 't', time, 'r', refs) end
  local entry = call('XADD', prefix .. KEY.done .. status, '*', 't', time, 'r', refs, 'k', 'own')
  call('ZADD', prefix .. KEY.kept, string.format('%d', ended_at + own), status .. ' ' .. entry)
end

-- Ends a task: collects its text to write, and its ref by status and retention period, for the order of removal.
local function finish(step, lane, ref, status, text)
  step.opened = step.opened - 1
  local size = #step.finished_texts
  step.finished_texts[size + 1], step.finished_texts[size + 2] = step.prefix .. KEY.finished .. ref, text
  local own = retention.own_ms(step, lane.type, status)
  append(step.finished_refs, own and string.format('%s %d', status, own) or status, ref)
  size = #step.to_follow
  step.to_follow[size + 1], step.to_follow[size + 2] = ref, text
end

-- Returns the text of a finished task: `status|reason|completed|attempts|`, the tail as a lease has it, and the
-- outcome.
local function finished_text(step, status, reason, head, x, payload, e, progress, result)
  local tail = table.concat({
    head.lost, head.deliveries, head.q, head.p, head.r, head.run_at, head.started, head.worker,
  }, '|')
  local first = table.concat({ status, reason, step.now_text, head.attempts, tail }, '|')
  return table.concat({ first, x, payload, 'null', e, progress, result }, '\n')
end

-- An idempotency key is removed with its task: it lives as long as a finished task may be kept.
local function keep_key(step, key, kept_ms)
  local prefix = step.prefix
  if not key then return end
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
    retention.add_done(step, status, step.now, table.concat(refs, ' '), tonumber(own))
  end
  step.finished_texts, step.finished_refs = {}, {}
end

-- A place in the order of a status is valid for a task only if the task has not been returned to pending since; a task
-- that ended again in that status has another place.
local function note_taken_back(step, ref, status)
  local prefix = step.prefix
  local last = call('XREVRANGE', prefix .. KEY.done .. status, '+', '-', 'COUNT', 1)[1]
  if last then call('HSET', prefix .. KEY.taken_back, ref .. ' ' .. status, last[1]) end
end
local function is_its_place(step, ref, status, place, text)
  if text:match('^(%l+)|') ~= status or text:match('^%l+|[%l_]*|(%d+)|') ~= place[2][2] then return false end
  local before = call('HGET', step.prefix .. KEY.taken_back, ref .. ' ' .. status)
  if not before then return true end
  local ms, n = before:match('^(%d+)-(%d+)$')
  local place_ms, place_n = place[1]:match('^(%d+)-(%d+)$')
  ms, place_ms = tonumber(ms), tonumber(place_ms)
  return place_ms > ms or (place_ms == ms and tonumber(place_n) > tonumber(n))
end

-- Adds the event of one task: `[status, type, worker, ref, attempts, progress, result, error, reason]`.
local function add_task_event(step, status, lane, head, progress, result, e, reason)
  event(step, 1, string.format('["%s","%s",%s,"%s",%s,%s,%s,%s,"%s"]', status, lane.type, head.worker, head.ref,
    head.attempts, progress, result, e, reason))
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

-- Ends a task that waited too long for its first start. The caller removes its entry.
local function end_wait(step, lane, head, x, payload)
  local text = finished_text(step, 'timeout', 'queue_wait', head, x, payload, WAIT_ERROR, 'null', 'null')
  finish(step, lane, head.ref, 'timeout', text)
  keep_key(step, labels_in(x), retention.kept_ms(step, lane.type, 'timeout'))
  count(step, lane.type, 'timeout', 1)
  add_task_event(step, 'timeout', lane, head, 'null', 'null', WAIT_ERROR, 'queue_wait')
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
