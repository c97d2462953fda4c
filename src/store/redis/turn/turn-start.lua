-- Starting tasks: their leases and their events. A part of turn.lua.
local start, start_grouped, write_begun
do

-- Returns the common parts of the leases of all fresh tasks of a turn with the same head, and when they are due; false
-- if the head is not that of a fresh task.
local function fresh_of_head(step, turn, head_text)
  local heads = turn.begun.heads
  local fresh = heads[head_text]
  if fresh == nil then
    local queue_timeout_ms, process_timeout_ms = unpack_request(head_text)
    fresh = false
    if queue_timeout_ms then
      local due, deadline_at = step.now + turn.lease_ms, '0'
      if process_timeout_ms ~= '0' then
        deadline_at = string.format('%d', step.now + process_timeout_ms)
        due = math.min(due, step.now + process_timeout_ms)
      end
      local lease = {
        fence = '1' .. turn.secret, deadline_at = deadline_at, lease_ms = turn.lease_text, expires_at = turn.expires_at,
      }
      fresh = fresh_leases.common(lease, head_text, step.now_text, turn.worker_json)
      fresh.wait_ms, fresh.due = tonumber(queue_timeout_ms), string.format('%d', due)
    end
    heads[head_text] = fresh
  end
  return fresh
end

-- Removes the waiting state of a task of a group that has started.
local function leave_waiting(step, turn, lane, ref, has_wait)
  count(step, lane.type, 'grouped', -1)
  if has_wait then turn.begun.waits[#turn.begun.waits + 1] = ref end
end

local function hold_permit(step, turn, lane, ref)
  if group_permits.are_kept(step, lane.type) then
    group_permits.take(step, lane.type, lane.group, ref)
  end
  step.busy_changes[turn.worker_json] = (step.busy_changes[turn.worker_json] or 0) + 1
end

-- Adds one task to the answer of a turn.
local function hand_out(step, tasks, lane, ref, head_text, payload, extras, error)
  local size, predecessors = #tasks, predecessors_of(step, ref, extras)
  tasks[size + 1], tasks[size + 2], tasks[size + 3], tasks[size + 4] = lane.name, '', ref, head_text
  tasks[size + 5], tasks[size + 6], tasks[size + 7], tasks[size + 8] = payload, extras, error, predecessors
end

-- Starts a task that is not plain; returns its lease's record, when the lease is due, its ref and attempts, or nil if
-- the task had waited too long.
local function start_special(step, turn, lane, entry, head_text, payload, extras, error, given_back, tasks)
  if given_back then
    local field = lane.no .. '.' .. entry
    head_text, error = unpack_again(call('HGET', step.prefix .. KEY.again, field))
    call('HDEL', step.prefix .. KEY.again, field)
  end
  local head = unpack_head(head_text, lane, entry)
  local ref, ends, stored_extras = head.ref, wait_ends(head), extras or NO_EXTRAS
  if lane.group then leave_waiting(step, turn, lane, ref, ends ~= nil) end
  if ref ~= lane.no .. '.' .. entry then turn.begun.moved[#turn.begun.moved + 1] = ref end
  if ends and ends <= step.now then
    end_wait(step, lane, head, stored_extras, payload)
    return nil
  end
  if step.ready_again and step.ready_again[ref] then wake(step, lane.type, -1) end
  if lane.group then hold_permit(step, turn, lane, ref) end
  hand_out(step, tasks, lane, ref, head_text, payloads.read(step, ref, payload), extras or '', error or '')
  local deadline_at, due = '0', step.now + turn.lease_ms
  if head.process_timeout_ms ~= '0' then
    deadline_at = string.format('%d', step.now + head.process_timeout_ms)
    due = math.min(due, step.now + head.process_timeout_ms)
  end
  local attempts = head.attempts
  head.deliveries = string.format('%d', head.deliveries + 1)
  head.started_at, head.worker = step.now_text, turn.worker_json
  local first = pack_lease({
    fence = head.deliveries .. turn.secret, cancel_at = '0', has_progress = '0', deadline_at = deadline_at,
    lease_ms = turn.lease_text, expires_at = turn.expires_at, entry = entry, attempts = attempts,
    tail = pack_tail(head),
  })
  local record = pack_task(first, stored_extras, payloads.set_apart(step, ref, payload), error or 'null')
  return record, string.format('%d', due), ref, attempts
end

-- Returns the records and events of a type's started tasks, which are written at the end of the turn.
local function begun_of(turn, kind)
  local of_type = turn.begun.types[kind]
  if not of_type then
    of_type = { leases = {}, running = {}, refs = {}, attempts = {} }
    turn.begun.types[kind] = of_type
  end
  return of_type
end

-- Writes the leases of all tasks that a turn has started. Until then only `held` and `claimed` include them.
function write_begun(step, turn)
  local prefix = step.prefix
  local begun = turn.begun
  payloads.write(step)
  if #begun.moved > 0 then many('HDEL', prefix .. KEY.moved, begun.moved) end
  if #begun.waits > 0 then many('ZREM', prefix .. KEY.group_waits, begun.waits) end
  for kind, of_type in pairs(begun.types) do
    many('HSET', prefix .. KEY.leases, of_type.leases)
    many('ZADD', prefix .. KEY.running .. kind, of_type.running)
    -- All leases of a turn are due at the same time, except those of attempts with an earlier deadline.
    local soonest = math.huge
    for index = 1, #of_type.running, 2 do soonest = math.min(soonest, of_type.running[index]) end
    if soonest < math.huge then call('ZADD', prefix .. KEY.leases_due, 'LT', string.format('%d', soonest), kind) end
    -- Adds the events of many tasks: `["started", type, worker, refs, attempts]`.
    event(step, #of_type.refs, '["started","' .. kind .. '",' .. turn.worker_json .. ',"'
      .. table.concat(of_type.refs, ' ') .. '","' .. table.concat(of_type.attempts, ' ') .. '"]')
  end
end

-- Collects a started task; it is written at the end of the turn.
local function note_begun(of_type, ref, record, due, attempts)
  local all = #of_type.refs + 1
  of_type.leases[all * 2 - 1], of_type.leases[all * 2] = ref, record
  of_type.running[all * 2 - 1], of_type.running[all * 2] = due, ref
  of_type.refs[all], of_type.attempts[all] = ref, attempts
end

-- Returns the common parts for a fresh task if it has not waited too long.
local function in_time(step, fresh, entry)
  return fresh and (fresh.wait_ms == 0 or entry:sub(1, 13) + fresh.wait_ms > step.now) and fresh
end

-- The same by the head; false for another task.
local function fresh_in_time(step, turn, head_text, entry)
  return in_time(step, fresh_of_head(step, turn, head_text), entry)
end

-- Begins a run of fresh tasks in the answer; returns the index of its counter.
local function begin_run(tasks, lane, head_text, extras)
  local place = #tasks + 3
  tasks[place - 2], tasks[place - 1], tasks[place], tasks[place + 1] = lane.name, head_text, 0, lane.no
  tasks[place + 2] = extras or ''
  return place
end

-- Starts the entries that a lane has handed out; ends those that have waited too long. Returns the number started.
function start(step, turn, lane, entries, tasks)
  local of_type, dead, started = begun_of(turn, lane.type), {}, 0
  local ref_begin, run_of, run_place = lane.no .. '.', nil, nil
  for _, item in ipairs(entries) do
    local entry = item[1]
    local head_text, payload, extras, error = unpack_entry(item[2])
    local fresh = not item.again and not error and fresh_in_time(step, turn, head_text, entry)
    local record, due, ref, attempts
    if fresh then
      ref, due, attempts = ref_begin .. entry, fresh.due, '0'
      local stored = payloads.set_apart(step, ref, payload)
      if extras then
        run_of = nil
        record = fresh_leases.pack(fresh, entry, extras .. '\n' .. stored .. NO_ERROR)
        hand_out(step, tasks, lane, ref, head_text, payload, extras, '')
      else
        record = fresh_leases.pack_plain(fresh, entry, stored)
        if run_of ~= head_text then run_of, run_place = head_text, begin_run(tasks, lane, head_text) end
        tasks[run_place] = tasks[run_place] + 1
        local size = #tasks
        tasks[size + 1], tasks[size + 2] = entry, payload
      end
    else
      run_of = nil
      record, due, ref, attempts =
        start_special(step, turn, lane, entry, head_text, payload, extras, error, item.again, tasks)
    end
    if record then
      started = started + 1
      note_begun(of_type, ref, record, due, attempts)
    else
      dead[#dead + 1] = entry
    end
  end
  if #dead > 0 then
    call('XACK', lane.stream, WORKERS, unpack(dead))
    call('XDEL', lane.stream, unpack(dead))
  end
  if started > 0 then step.claimed[lane.type] = (step.claimed[lane.type] or 0) + started end
  return started
end

-- Returns what fresh tasks have in common whose texts begin with the same lines; false if this one is not fresh.
local function alike_to(step, turn, text)
  local lines, head_text, extras = text:match('^(([^\n]*)\n([^\n]*)\n)')
  local fresh = not has_predecessors(extras) and fresh_of_head(step, turn, head_text)
  return fresh and { lines = lines, head_text = head_text, extras = extras, fresh = fresh }
end

-- The same for tasks of groups, which have left their queue, by their entries, groups, refs and texts, and the uses of
-- those that use limits; returns also which have started. The lines after the head of a text are copied unchanged into
-- the record of the lease, and into the answer to the worker. Most tasks that use limits are alike but for the payload.
function start_grouped(step, turn, lane, entries, groups, refs, texts, tasks, uses)
  local of_type, starts, started, fresh_tasks = begun_of(turn, lane.type), {}, 0, 0
  local held = group_permits.are_kept(step, lane.type)
  local run_of, run_place, alike
  for index, entry in ipairs(entries) do
    local text, head_text, lines, fresh, payload = texts[index], nil, nil, nil, nil
    if text and uses and uses[index] then
      if not (alike and text:find(alike.lines, 1, true) == 1) then alike = alike_to(step, turn, text) end
      fresh = alike and not previous_error.is_in(text) and in_time(step, alike.fresh, entry)
      payload = fresh and text:sub(#alike.lines + 1, -#NO_ERROR - 1)
    end
    if text and not payload then
      head_text, lines = split_head(text)
      fresh = fresh_in_time(step, turn, head_text, entry)
      if fresh and lines_have_predecessors(lines) then fresh = false end
    end
    local record, due, ref, attempts
    if fresh then
      ref, due, attempts = refs[index], fresh.due, '0'
      if run_of ~= (payload and alike or head_text) then
        run_of = payload and alike or head_text
        run_place = begin_run(tasks, lane, head_text or alike.head_text, payload and alike.extras)
      end
      local size = #tasks
      if payload then
        record = fresh_leases.pack_parts(fresh, entry, alike.extras, payloads.set_apart(step, ref, payload))
        tasks[run_place], tasks[size + 1], tasks[size + 2] = tasks[run_place] + 1, entry, payload
      else
        record = fresh_leases.pack(fresh, entry, payloads.set_line_apart(step, ref, lines))
        tasks[run_place], tasks[size + 1], tasks[size + 2] = tasks[run_place] - 1, entry, lines
      end
      if held then group_permits.take(step, lane.type, groups[index], ref) end
      fresh_tasks = fresh_tasks + 1
      if fresh.wait_ms ~= 0 then turn.begun.waits[#turn.begun.waits + 1] = ref end
    elseif text then
      run_of = nil
      local _, extras, payload, error = unpack_task(text)
      if error == 'null' then error = nil end
      record, due, ref, attempts = start_special(
        step, turn, group_lane(lane, groups[index]), entry, head_text, payload, extras, error, false, tasks)
    end
    -- A process of the previous version leaves the group of a task that it has ended in `lone`.
    if record then
      starts[index], started = true, started + 1
      note_begun(of_type, ref, record, due, attempts)
      if uses and uses[index] then limits.start(step, uses[index], ref) end
    end
  end
  if fresh_tasks > 0 then
    count(step, lane.type, 'grouped', -fresh_tasks)
    step.busy_changes[turn.worker_json] = (step.busy_changes[turn.worker_json] or 0) + fresh_tasks
  end
  if started > 0 then step.claimed[lane.type] = (step.claimed[lane.type] or 0) + started end
  return started, starts
end

end
