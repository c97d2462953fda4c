-- The leases of a turn: renewals, settlements and their consequences. A part of turn.lua.
local make_type, success, renew, write_busy, add_success_events, begin_turns
local try_settle, settle_run, clear_ended
do

local OK, LOST, CHANGED, UNSTORABLE = 0, 1, 2, 3

-- Returns how many types may still be created by naming them. The sweep forgets the others (sweep-forget.lua).
local function room_for_named(step)
  local served = 0
  for _, seen in ipairs(call('HVALS', step.prefix .. KEY.known)) do
    if tonumber(seen) > step.now - step.type_ttl_ms then served = served + 1 end
  end
  return TYPES_NAMED_MAX - served
end

-- Returns whether a type exists; creates it if a worker names it and there is room.
function make_type(step, kind)
  local prefix = step.prefix
  if call('HEXISTS', prefix .. KEY.rules, kind) == 1 then return true end
  step.types_room = step.types_room or room_for_named(step)
  if step.types_room <= 0 then return false end
  step.types_room = step.types_room - 1
  call('HSET', prefix .. KEY.rules, kind, NEW_RULES)
  call('HSET', prefix .. KEY.known, kind, step.now_text)
  return true
end

-- A success that the worker of the lease reports, decided while no cancel had been requested.
function success(ref, fence, result)
  return {
    ref = ref, fence = fence, cancel_requested = '0', status = 'success', reason = '', error = 'null', own = true,
    result = result,
  }
end

function renew(step, renewal)
  local prefix = step.prefix
  local ref = renewal.ref
  local record = call('HGET', prefix .. KEY.leases, ref)
  local lease = record and unpack_lease(record)
  if not lease or lease.fence ~= renewal.fence then return false end
  lease.expires_at = string.format('%d', step.now + lease.lease_ms)
  if renewal.progress ~= '' then lease.has_progress = '1' end
  call('HSET', prefix .. KEY.leases, ref, pack_lease(lease))
  local lane = lane_by_ref(step, ref)
  call('ZADD', prefix .. KEY.running .. lane.type, string.format('%d', due_of(lease, step.grace_ms)), ref)
  if renewal.progress ~= '' then
    call('HSET', prefix .. KEY.progress, ref, renewal.progress)
    add_task_event(step, 'progress', lane, unpack_tail(ref, lease), renewal.progress, 'null', 'null', '')
  end
  return { lease.expires_at, lease.cancel_at ~= '0' and 1 or 0 }
end

local function leave_lease(step, ref, lane)
  local ended = step.ended
  ended[#ended + 1] = ref
  append(step.ended_of, lane.type, ref)
end

-- A lease of a group, or of the lane `group` with limits, ends; lanes may have a task for the permit that becomes free.
local function leave_group(step, lane, group, its_group, ref, entry, worker)
  local prefix = step.prefix
  if lane.has_served == nil then lane.has_served = call('EXISTS', prefix .. KEY.served .. lane.name) == 1 end
  if lane.has_served then
    append(step.left_groups, lane, group)
    append(step.left_groups, lane, entry)
  end
  if group_permits.are_kept(step, lane.type) then
    call('SREM', group_permits.key_of(step, lane.type, group), ref)
    -- A process of the previous version counts it there.
    if its_group ~= group then call('SREM', prefix .. KEY.held .. lane.type .. '|' .. group, ref) end
  elseif its_group ~= '' then
    append(step.unkept, group_permits.key_of(step, lane.type, group), ref)
  end
  step.busy_changes[worker] = (step.busy_changes[worker] or 0) - 1
  local limited_lanes = step.lanes_at_limit[lane.type]
  if not limited_lanes then
    -- Only claims add groups to `at_limit`, and a step settles before it claims.
    limited_lanes = {}
    for _, other in ipairs(lanes_of_type(step, lane.type)) do
      if call('EXISTS', prefix .. KEY.at_limit .. other.name) == 1 then limited_lanes[#limited_lanes + 1] = other end
    end
    step.lanes_at_limit[lane.type] = limited_lanes
  end
  if its_group == '' then return end
  for _, other in ipairs(limited_lanes) do end_at_limit(step, other, its_group) end
end

function write_busy(step)
  local prefix = step.prefix
  local busy = prefix .. KEY.busy
  for worker, change in pairs(step.busy_changes) do
    if change ~= 0 and call('HINCRBY', busy, worker, change) <= 0 then call('HDEL', busy, worker) end
  end
end

-- Successes of this turn's own worker are reported together, by lane.
local function collect_success(step, lane, ref, attempts, result)
  local successes = step.succeeded[lane]
  if not successes then
    successes = { refs = {}, attempts = {}, results = {} }
    step.succeeded[lane] = successes
  end
  local place = #successes.refs + 1
  successes.refs[place], successes.attempts[place], successes.results[place] = ref, attempts, result
end

-- Returns worker and labels of a task that succeeded; nil if it has none. In a run, many tasks that use limits have
-- the same, which `alike` keeps.
local function read_labels(step, tail, alike)
  if alike and alike.line and tail:find(alike.line, alike.at, true) == alike.at then
    return alike.worker, alike.labels
  end
  local worker, extras = worker_and_extras(tail)
  if not worker then return nil end
  local labels = limits.labels_of(step, extras)
  if labels and alike then
    alike.worker, alike.labels, alike.line, alike.at = worker, labels, '\n' .. extras .. '\n', tail:find('\n', 1, true)
  end
  if labels then return worker, labels end
  local key, group = labels_in(extras)
  return worker, { key = key, lane = group, group = group, uses = nil }
end

-- The lease had no progress, so its tail is copied unchanged into the text, without the error of a previous attempt.
local function succeed(step, ref, lane, entry, attempts, tail, result, alike)
  leave_lease(step, ref, lane)
  local worker, labels = read_labels(step, tail, alike)
  local group = labels and labels.lane
  if labels then
    if labels.key then keep_key(step, labels.key, retention.kept_ms(step, lane.type, 'success')) end
    if group then leave_group(step, lane, group, labels.group, ref, entry, worker) end
    if labels.uses then
      limits.count_uses(step, '#', labels.uses, -1)
      limits.leave(step, ref, labels.uses)
    end
  end
  if not group then append(step.left, lane, entry) end
  if shared_time.is_of(step, lane.type) then
    shared_time.ended(step, lane, group or '', tail:match('^%d+|%d+|%d+|%d+|%d+|%d+|(%d+)|'))
  end
  finish(step, lane, ref, 'success', pack_success(step, attempts, tail, result))
  collect_success(step, lane, ref, attempts, result)
end

-- Adds the events of many tasks: `["ended", type, worker, status, refs, attempts, [results]]`.
function add_success_events(step, turn)
  for lane, successes in pairs(step.succeeded) do
    local tasks = #successes.refs
    count(step, lane.type, 'success', tasks)
    event(step, tasks, '["ended","' .. lane.type .. '",' .. turn.worker_json .. ',"success","'
      .. table.concat(successes.refs, ' ') .. '","' .. table.concat(successes.attempts, ' ') .. '",['
      .. table.concat(successes.results, ',') .. ']]')
  end
  step.succeeded = {}
end

-- Starts no task of a type for some time, or none that uses a limit, if it is given and the task does; a longer hold
-- stays.
local function hold(step, kind, hold_ms, extras, name)
  local rules, field = step.prefix .. KEY.rules, kind .. '/held'
  local held_until = step.now + hold_ms
  local uses = name ~= '' and limits.uses_of(step, extras)
  for _, used in ipairs(uses and uses.names or {}) do
    if used == name and limits.hold(step, name, held_until) then return end
  end
  if held_until > tonumber(call('HGET', rules, field) or 0) then
    call('HSET', rules, field, string.format('%d', held_until))
  end
end

-- Returns a task to its lane: it keeps its place.
local function give_back(step, task, lane, entry, group)
  local prefix, ref, head_text = step.prefix, task.ref, pack_head(step, task)
  if entry ~= ref:match('%.(.*)$') then call('HSET', prefix .. KEY.moved, ref, entry) end
  if group then
    local payload = payloads.take_back(step, ref, task.payload)
    arrive(step, lane, group, entry, pack_task(head_text, task.extras, payload, task.error))
    leave_group(step, lane, group, limits.group_of(group), ref, entry, task.worker)
  else
    call('HSET', prefix .. KEY.again, lane.no .. '.' .. entry, pack_again(head_text, task.error))
    step.may_have_rare = true
    call('ZADD', lane.back, 0, entry)
    note_ready(step, lane, entry)
    call('XCLAIM', lane.stream, WORKERS, '-', 0, entry, 'JUSTID')
  end
  wake_for(step, lane, ref)
end

-- Ends a lease and applies the decided state to its task; `lease` is the present lease.
local function settle(step, outcome, lease, lane)
  local ref, status, error = outcome.ref, outcome.status, outcome.error
  local task = unpack_tail(ref, lease)
  local progress = lease.has_progress == '1' and call('HGET', step.prefix .. KEY.progress, ref) or 'null'
  task.attempts = outcome.attempts or string.format('%d', lease.attempts + 1)
  task.lost_leases, task.run_at = outcome.lost_leases or task.lost_leases, outcome.run_at or task.run_at
  local extras, payload, key, group = task.extras, task.payload, labels_in(task.extras)
  leave_lease(step, ref, lane)
  shared_time.ended(step, lane, group or '', task.started_at)
  local uses = limits.uses_of(step, extras)
  if uses then limits.leave(step, ref, uses, task.started_at, outcome.usage) end
  if outcome.hold_ms and outcome.hold_ms ~= '' then
    task.error = error
    hold(step, lane.type, tonumber(outcome.hold_ms), extras, outcome.held_limit)
  end
  if lease.has_progress == '1' then call('HDEL', step.prefix .. KEY.progress, ref) end
  if outcome.attempt and outcome.attempt ~= '' then
    attempts.keep(step, ref, outcome.attempt, {
      delivery = task.deliveries, number = string.format('%d', lease.attempts + 1), started_at = task.started_at,
      ended_at = step.now_text, worker = task.worker, error = error,
    })
  end
  if status == 'pending' and task.attempts == lease.attempts and tonumber(task.run_at) <= step.now then
    give_back(step, task, lane, lease.entry, group)
  else
    if group then
      leave_group(step, lane, group, limits.group_of(group), ref, lease.entry, task.worker)
    else
      append(step.left, lane, lease.entry)
    end
    if status ~= 'pending' then
      local text = pack_finished(step, status, outcome.reason, task, extras, payload, error, progress, outcome.result)
      finish(step, lane, ref, status, text)
      if uses then limits.count_uses(step, '#', uses, -1) end
      keep_key(step, key, retention.kept_ms(step, lane.type, status))
      count(step, lane.type, status, 1)
    elseif tonumber(task.run_at) > step.now then
      payload = payloads.take_back(step, ref, payload)
      delay(step, lane, ref, task.run_at, pack_head(step, task), extras, payload, error)
    else
      payload = payloads.take_back(step, ref, payload)
      enqueue(step, lane, ref, pack_head(step, task), extras, payload, error)
    end
  end
  add_task_event(step, status, lane, task, progress, outcome.result, error, outcome.reason)
end

-- Reads the leases of all outcomes, and begins to collect what the turns change.
function begin_turns(step, outcome_refs)
  local held = {}
  for from = 1, #outcome_refs, CHUNK do
    local to = math.min(from + CHUNK - 1, #outcome_refs)
    local records = call('HMGET', step.prefix .. KEY.leases, unpack(outcome_refs, from, to))
    for index = from, to do held[outcome_refs[index]] = records[index - from + 1] end
  end
  -- The records of leases that are still held, by ref.
  step.held = held
  -- Leases that ended: all refs, and by type; entries to delete by lane, and (group, entry) pairs by lane.
  step.ended, step.ended_of, step.left, step.left_groups = {}, {}, {}, {}
  -- By type: tasks that the claims have started.
  step.claimed = {}
  -- By lane: successes of the present turn's own worker.
  step.succeeded = {}
  -- Ended leases of groups whose type does not keep them by group, by their key in `held`.
  step.unkept = {}
  -- By worker: the change in its leases of groups; by type: the lanes in which groups are at their limit.
  step.busy_changes, step.lanes_at_limit = {}, {}
end

function try_settle(step, outcome)
  local record = step.held[outcome.ref]
  local lease = record and unpack_lease(outcome.own and previous_error.cut(record) or record)
  if not lease or lease.fence ~= outcome.fence then return LOST end
  if outcome.is_bad then return UNSTORABLE end
  if (lease.cancel_at ~= '0') ~= (outcome.cancel_requested == '1') then return CHANGED end
  local is_late = lease.deadline_at ~= '0' and step.now >= tonumber(lease.deadline_at)
  if outcome.status == 'success' and is_late then return CHANGED end
  if outcome.only_when_due == '1' and due_of(lease, step.grace_ms) > step.now then return CHANGED end
  step.held[outcome.ref] = nil
  local lane = lane_by_ref(step, outcome.ref)
  if outcome.own and lease.has_progress == '0' then
    succeed(step, outcome.ref, lane, lease.entry, string.format('%d', lease.attempts + 1), lease.tail, outcome.result)
  else
    settle(step, outcome, lease, lane)
  end
  return OK
end

-- Settles successes of leases whose records are unchanged: the part after their common prefix has a fixed width. Only
-- the store knows the name of their lane: after it lost everything, the same number may belong to another lane.
function settle_run(step, run, verdicts)
  local lane, prefix, width = lane_by_ref(step, run.refs[1]), run.prefix, #run.prefix
  local in_time, alike = run.deadline_at == 0 or step.now < run.deadline_at, {}
  for index, ref in ipairs(run.refs) do
    local record = step.held[ref]
    if record and in_time and record:sub(1, width) == prefix then
      step.held[ref] = nil
      succeed(step, ref, lane, run.entries[index], '1', fresh_leases.tail_of(record, width), run.results[index], alike)
      verdicts[#verdicts + 1] = OK
    else
      verdicts[#verdicts + 1] = try_settle(step, success(ref, fence_of(prefix), run.results[index]))
    end
  end
end

-- Leases that a process of the previous version has handed out are in `held` whether their type has a limit or not.
local function leave_unkept(step)
  local keys = {}
  for key in pairs(step.unkept) do keys[#keys + 1] = key end
  for from = 1, #keys, CHUNK do
    local to = math.min(from + CHUNK - 1, #keys)
    if call('EXISTS', unpack(keys, from, to)) > 0 then
      for index = from, to do many('SREM', keys[index], step.unkept[keys[index]]) end
    end
  end
end

-- Removes settled leases, all at once. It runs before any limit is checked.
function clear_ended(step)
  local prefix = step.prefix
  if #step.ended == 0 then return end
  limits.write_ended(step)
  leave_unkept(step)
  many('HDEL', prefix .. KEY.leases, step.ended)
  for kind, refs in pairs(step.ended_of) do many('ZREM', prefix .. KEY.running .. kind, refs) end
  if step.may_have_rare and call('EXISTS', prefix .. KEY.parked) == 1 then
    for kind in pairs(step.ended_of) do unpark(step, kind, true) end
  end
  for lane, entries in pairs(step.left) do
    for from = 1, #entries, CHUNK do
      local to = math.min(from + CHUNK - 1, #entries)
      call('XDEL', lane.stream, unpack(entries, from, to))
      call('XACK', lane.stream, WORKERS, unpack(entries, from, to))
    end
  end
  for lane, entries in pairs(step.left_groups) do leave_streams_of_groups(step, lane, entries) end
end

end
