-- Starting tasks: their leases and their events. The second part of the turn, which turn.lua ends. Lua allows 200
-- locals in all files together, so locals that no other file needs end with the block.
local start, start_grouped, write_begun
do

-- Returns the values that all fresh tasks of a turn with the same head have in common; false if the head is not that of
-- a fresh task.
local function plain_head(step, turn, m)
  local heads = turn.begun.heads
  local head = heads[m]
  if head == nil then
    local q, p, r = m:match('^(%d+),(%d+),(%d+)$')
    head = false
    if q then
      local due, deadline = step.now + turn.lease_ms, '0'
      if p ~= '0' then
        deadline = string.format('%d', step.now + p)
        due = math.min(due, step.now + p)
      end
      head = {
        wait_ms = tonumber(q),
        due = string.format('%d', due),
        prefix = '1' .. turn.secret .. '|0|0|' .. deadline .. '|' .. turn.lease_text .. '|' .. turn.expires .. '|',
        middle = '|0|0|1|' .. q .. '|' .. p .. '|' .. r .. '|',
        suffix = '|' .. step.now_text .. '|' .. turn.worker_json .. '\n',
      }
    end
    heads[m] = head
  end
  return head
end

-- Removes the waiting state of a task of a group that has started.
local function leave_waiting(step, turn, lane, ref, has_wait)
  count(step, lane.type, 'grouped', -1)
  if has_wait then turn.begun.waits[#turn.begun.waits + 1] = ref end
end

local function hold_permit(step, turn, lane, ref)
  if group_permits.are_kept(step, lane.type) then
    call('SADD', step.prefix .. KEY.held .. lane.type .. '|' .. lane.group, ref)
  end
  step.busy_changes[turn.worker_json] = (step.busy_changes[turn.worker_json] or 0) + 1
end

local function hand_out(step, tasks, lane, ref, m, payload, x, e)
  local size = #tasks
  tasks[size + 1], tasks[size + 2], tasks[size + 3], tasks[size + 4] = lane.name, '', ref, m
  tasks[size + 5], tasks[size + 6], tasks[size + 7], tasks[size + 8] = payload, x, e, predecessors_of(step, ref, x)
end

-- Starts a task that is handed out for the first time and has extras; returns its lease's record.
local function start_labeled(step, lane, entry, list, head, tasks)
  local ref, m, payload, x = lane.no .. '.' .. entry, list[2], list[4], list[6]
  hand_out(step, tasks, lane, ref, m, payload, x, '')
  return head.prefix .. entry .. head.middle .. entry:sub(1, 13) .. head.suffix .. x .. '\n' .. payload .. NO_ERROR, ref
end

-- Starts a task that is not plain; returns its lease's record, when the lease is due, its ref and attempts, or nil if
-- the task had waited too long.
local function start_special(step, turn, lane, entry, list, given_back, tasks)
  local prefix = step.prefix
  local m, payload, x, e = list[2], list[4], '', ''
  for index = 5, #list, 2 do
    if list[index] == 'x' then x = list[index + 1] else e = list[index + 1] end
  end
  if given_back then
    m, e = call('HGET', prefix .. KEY.again, lane.no .. '.' .. entry):match('^([^\n]*)\n(.*)$')
    call('HDEL', prefix .. KEY.again, lane.no .. '.' .. entry)
  end
  local head = head_of(m, lane, entry)
  local ref = head.ref
  if lane.group then leave_waiting(step, turn, lane, ref, wait_ends(head) ~= nil) end
  if ref ~= lane.no .. '.' .. entry then turn.begun.moved[#turn.begun.moved + 1] = ref end
  local extras = x == '' and NO_EXTRAS or x
  local ends = wait_ends(head)
  if ends and ends <= step.now then
    end_wait(step, lane, head, extras, payload)
    return nil
  end
  local deadline, due = '0', step.now + turn.lease_ms
  if head.p ~= '0' then
    deadline = string.format('%d', step.now + head.p)
    due = math.min(due, step.now + head.p)
  end
  local deliveries = string.format('%d', head.deliveries + 1)
  local tail = table.concat({
    head.lost, deliveries, head.q, head.p, head.r, head.run_at, step.now_text, turn.worker_json,
  }, '|')
  local fence = deliveries .. turn.secret
  local first = { fence, '0', '0', deadline, turn.lease_text, turn.expires, entry, head.attempts, tail }
  if lane.group then hold_permit(step, turn, lane, ref) end
  hand_out(step, tasks, lane, ref, m, payload, x, e)
  local record = table.concat({ table.concat(first, '|'), extras, payload, e == '' and 'null' or e }, '\n')
  return record, string.format('%d', due), ref, head.attempts
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

-- Returns the head of a fresh task that has not waited too long; false for another task.
local function fresh_head(step, turn, m, entry)
  local head = plain_head(step, turn, m)
  return head and (head.wait_ms == 0 or entry:sub(1, 13) + head.wait_ms > step.now) and head
end

-- Begins a run of fresh tasks in the answer; returns the index of its counter.
local function begin_run(tasks, lane, m)
  local place = #tasks + 3
  tasks[place - 2], tasks[place - 1], tasks[place], tasks[place + 1] = lane.name, m, 0, lane.no
  return place
end

-- Starts the entries that a lane has handed out; ends those that have waited too long. Returns the number started.
function start(step, turn, lane, entries, tasks)
  local of_type, dead, started = begun_of(turn, lane.type), {}, 0
  local prefix, plain_suffix = lane.no .. '.', '|' .. step.now_text .. '|' .. turn.worker_json .. PLAIN
  local run_of, run_place
  for _, item in ipairs(entries) do
    local entry, list = item[1], item[2]
    local m = list[2]
    local head = not item.again and not list[7] and (not list[5] or list[5] == 'x') and fresh_head(step, turn, m, entry)
    local record, due, ref, attempt
    if head and list[5] then
      run_of, due, attempt = nil, head.due, '0'
      record, ref = start_labeled(step, lane, entry, list, head, tasks)
    elseif head then
      local payload = list[4]
      ref, due, attempt = prefix .. entry, head.due, '0'
      record = head.prefix .. entry .. head.middle .. entry:sub(1, 13) .. plain_suffix .. payload .. NO_ERROR
      if run_of ~= m then run_of, run_place = m, begin_run(tasks, lane, m) end
      tasks[run_place] = tasks[run_place] + 1
      local size = #tasks
      tasks[size + 1], tasks[size + 2] = entry, payload
    else
      run_of = nil
      record, due, ref, attempt = start_special(step, turn, lane, entry, list, item.again, tasks)
    end
    if record then
      started = started + 1
      note_begun(of_type, ref, record, due, attempt)
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

-- The same for tasks of groups, which have left their queue, by their entries, groups, refs and texts; returns also
-- which have started. The lines after the head of a text are copied unchanged into the record of the lease, and into
-- the answer to the worker.
function start_grouped(step, turn, lane, entries, groups, refs, texts, tasks)
  local of_type, starts, started, fresh = begun_of(turn, lane.type), {}, 0, 0
  local held = group_permits.are_kept(step, lane.type) and step.prefix .. KEY.held .. lane.type .. '|'
  local run_of, run_place
  for index, entry in ipairs(entries) do
    local text, m, lines, head = texts[index], nil, nil, nil
    if text then
      local m_ends = text:find('\n', 1, true)
      m, lines = text:sub(1, m_ends - 1), text:sub(m_ends + 1)
      head = fresh_head(step, turn, m, entry)
      -- Extras that end with `]` name the tasks that it has waited for.
      if head and lines:find(']\n', 1, true) == lines:find('\n', 1, true) - 1 then head = false end
    end
    local record, due, ref, attempts
    if head then
      ref, due, attempts = refs[index], head.due, '0'
      record = head.prefix .. entry .. head.middle .. entry:sub(1, 13) .. head.suffix .. lines
      if run_of ~= m then run_of, run_place = m, begin_run(tasks, lane, m) end
      tasks[run_place] = tasks[run_place] - 1
      local size = #tasks
      tasks[size + 1], tasks[size + 2] = entry, lines
      if held then call('SADD', held .. groups[index], ref) end
      fresh = fresh + 1
      if head.wait_ms ~= 0 then turn.begun.waits[#turn.begun.waits + 1] = ref end
    elseif text then
      run_of = nil
      local _, x, payload, e = lines_of(text)
      local list = { 'm', m, 'p', payload, 'x', x, e ~= 'null' and 'e' or nil, e }
      record, due, ref, attempts = start_special(step, turn, group_lane(lane, groups[index]), entry, list, false, tasks)
    end
    -- A process of the previous version leaves the group of a task that it has ended in `lone`.
    if record then
      starts[index], started = true, started + 1
      note_begun(of_type, ref, record, due, attempts)
    end
  end
  if fresh > 0 then
    count(step, lane.type, 'grouped', -fresh)
    step.busy_changes[turn.worker_json] = (step.busy_changes[turn.worker_json] or 0) + fresh
  end
  if started > 0 then step.claimed[lane.type] = (step.claimed[lane.type] or 0) + started end
  return started, starts
end

end
