-- How tasks start: their leases, and what is told of them. The second part of the turn, which turn.lua ends.

-- What all fresh tasks of a turn with the same head have in common; false for a head that is not of a fresh one.
local function plain_head(turn, m)
  local heads = heads_of_turn[turn]
  if not heads then
    heads = {}
    heads_of_turn[turn] = heads
  end
  local head = heads[m]
  if head == nil then
    local q, p, r = m:match('^(%d+),(%d+),(%d+)$')
    head = false
    if q then
      local due, deadline = now + turn.lease_ms, '0'
      if p ~= '0' then
        deadline = string.format('%d', now + p)
        due = math.min(due, now + p)
      end
      head = {
        wait_ms = tonumber(q),
        due = string.format('%d', due),
        prefix = '1' .. turn.secret .. '|0|0|' .. deadline .. '|' .. turn.lease_text .. '|' .. turn.expires .. '|',
        middle = '|0|0|1|' .. q .. '|' .. p .. '|' .. r .. '|',
        suffix = '|' .. NOW .. '|' .. turn.worker_json .. PLAIN,
      }
    end
    heads[m] = head
  end
  return head
end

-- Starts one that is not plain; returns its lease's record, when that is due, its ref and attempts, or nil if it had
-- waited too long.
local function start_special(turn, lane, entry, list, given_back, tasks)
  local m, payload, x, e = list[2], list[4], '', ''
  for index = 5, #list, 2 do
    if list[index] == 'x' then x = list[index + 1] else e = list[index + 1] end
  end
  if given_back then
    m, e = call('HGET', P .. KEY.again, lane.no .. '.' .. entry):match('^([^\n]*)\n(.*)$')
    call('HDEL', P .. KEY.again, lane.no .. '.' .. entry)
  end
  local head = head_of(m, lane, entry)
  local ref = head.ref
  if lane.group or ref ~= lane.no .. '.' .. entry then call('HDEL', P .. KEY.moved, ref) end
  if lane.group then
    count(lane.type, 'grouped', -1)
    if wait_ends(head) then call('ZREM', P .. KEY.group_waits, ref) end
  end
  local extras = x == '' and NO_EXTRAS or x
  local ends = wait_ends(head)
  if ends and ends <= now then
    end_wait(lane, head, extras, payload)
    return nil
  end
  local deadline, due = '0', now + turn.lease_ms
  if head.p ~= '0' then
    deadline = string.format('%d', now + head.p)
    due = math.min(due, now + head.p)
  end
  local deliveries = string.format('%d', head.deliveries + 1)
  local tail = table.concat({ head.lost, deliveries, head.q, head.p, head.r, head.run_at, NOW, turn.worker_json }, '|')
  local fence = deliveries .. turn.secret
  local first = { fence, '0', '0', deadline, turn.lease_text, turn.expires, entry, head.attempts, tail }
  if lane.group then
    call('SADD', P .. KEY.held .. lane.type .. '|' .. lane.group, ref)
    call('HINCRBY', P .. KEY.busy, turn.worker_json, 1)
  end
  local told = { lane.name, '', ref, m, payload, x, e, predecessors_of(ref, x) }
  for _, value in ipairs(told) do tasks[#tasks + 1] = value end
  local record = table.concat({ table.concat(first, '|'), extras, payload, e == '' and 'null' or e }, '\n')
  return record, string.format('%d', due), ref, head.attempts
end

-- Starts the entries that a lane has handed out; those that have waited too long end instead. Returns how many started.
local function start(turn, lane, entries, tasks)
  local leases, running, refs, attempts, dead = {}, {}, {}, {}, {}
  local started = 0
  local prefix = lane.no .. '.'
  local run_of, run_place
  for _, item in ipairs(entries) do
    local entry, list = item[1], item[2]
    local m = list[2]
    local head = not list[5] and not item.again and plain_head(turn, m)
    local record, due, ref, attempt
    if head and (head.wait_ms == 0 or entry:sub(1, 13) + head.wait_ms > now) then
      local payload = list[4]
      ref, due, attempt = prefix .. entry, head.due, '0'
      record = head.prefix .. entry .. head.middle .. entry:sub(1, 13) .. head.suffix .. payload .. '\nnull'
      if run_of ~= m then
        run_of, run_place = m, #tasks + 3
        tasks[run_place - 2], tasks[run_place - 1], tasks[run_place], tasks[run_place + 1] = lane.name, m, 0, lane.no
      end
      tasks[run_place] = tasks[run_place] + 1
      local size = #tasks
      tasks[size + 1], tasks[size + 2] = entry, payload
    else
      run_of = nil
      record, due, ref, attempt = start_special(turn, lane, entry, list, item.again, tasks)
    end
    if record then
      started = started + 1
      local place = started * 2
      leases[place - 1], leases[place] = ref, record
      running[place - 1], running[place] = due, ref
      refs[started], attempts[started] = ref, attempt
    else
      dead[#dead + 1] = entry
    end
  end
  if #dead > 0 then
    call('XACK', lane.stream, WORKERS, unpack(dead))
    call('XDEL', lane.stream, unpack(dead))
  end
  if started > 0 then
    many('HSET', P .. KEY.leases, leases)
    many('ZADD', P .. KEY.running .. lane.type, running)
    -- Tells of many: `["started", type, worker, refs, attempts]`.
    event(started, '["started","' .. lane.type .. '",' .. turn.worker_json .. ',"' .. table.concat(refs, ' ') .. '","'
      .. table.concat(attempts, ' ') .. '"]')
    claimed[lane.type] = (claimed[lane.type] or 0) + started
  end
  return started
end
