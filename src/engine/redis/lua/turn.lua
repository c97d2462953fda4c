-- Turns of workers: renew leases, settle outcomes, claim tasks. Several turns in one step.
--
-- ARGV  now, this process, grace of a cancel (ms), how long a finished task may be kept (ms); number of types that this
--       process was woken for in vain, each; number of lanes that leases are of, (number, name) each; number of turns;
--       each turn: the worker's id, the same as JSON, its description as JSON or '' (nothing new), attempts that went
--       well and that did not since then, '1' if it leaves, lease in ms; number of renewals, (ref, fence, progress or
--       '') each; number of groups of outcomes, each one of
--         'R', lane's number, begin of the record that all these leases have if nothing has happened to them, their
--         deadline or 0, how many, (entry, result) each: successes of this worker's leases of tasks that came for the
--         first time and had no extras
--         'S', ref, fence, result: success of a lease of this worker, decided while no cancel was asked for
--         'O', ref, fence, cancel asked for (0|1), '1' if only when due, status, attempts, lost, run_at, reason, error,
--         result
--       how many tasks it wants, '1' if it waits, number of types, each type
-- Returns {now, when the next thing is due for whoever waits or '', one for each turn: {renewals, outcomes, tasks, refs
--       of its leases to be canceled}}
--       renewal: {expires, cancel asked for} or false; outcome: 0 done | 1 the lease was lost | 2 decide again, it has
--       changed; tasks: lane's name, head, how many of that kind follow each other, lane's number, (entry, payload)
--       each; or, where the head is '', one with (ref, its own head, payload, extras or '', error or '')
-- Cost  per claim from a lane an XREADGROUP; for all together one HMGET, MSET, XACK, XDEL, ZREM, HDEL, HSET and ZADD
--       per type or lane; a task of a group some ten commands
local process, grace_ms, retention_ms
local woken_in_vain, outcome_refs, turns
local held, heads_of_turn
local ended, ended_of, left, freed, claimed, succeeded
local next_due

local OK, LOST, CHANGED = 0, 1, 2
local PLAIN = '\n' .. NO_EXTRAS .. '\n'
-- Behind `fence|0|0|deadline|lease_ms|` come `<13 digits>|<24 digits>|0|`, and then the tail.
local TAIL_AT = 42

-- Reading -------------------------------------------------------------------------------------------------------------

local function success(ref, fence, result)
  return {
    ref = ref, fence = fence, cancel = '0', status = 'success', reason = '', error = 'null', own = true,
    result = result,
  }
end

local function read_run()
  local run = { lane = lanes[arg()], prefix = arg(), deadline = number(), entries = {}, results = {}, refs = {} }
  local begin_ref, size = run.lane.no .. '.', #outcome_refs
  for index = 1, number() do
    local entry = ARGV[at + 1]
    local ref = begin_ref .. entry
    run.entries[index], run.results[index], run.refs[index] = entry, ARGV[at + 2], ref
    outcome_refs[size + index] = ref
    at = at + 2
  end
  return run
end

local function read_outcome()
  local kind = arg()
  if kind == 'R' then return read_run() end
  local ref, fence = arg(), arg()
  outcome_refs[#outcome_refs + 1] = ref
  if kind == 'S' then return success(ref, fence, arg()) end
  return {
    ref = ref, fence = fence, cancel = arg(), due = arg(), status = arg(), attempts = arg(), lost = arg(),
    run_at = arg(), reason = arg(), error = arg(), result = arg(),
  }
end

local function read_turn()
  local turn = {
    worker = arg(), worker_json = arg(), about = arg(), went_well = arg(), failed = arg(), leaves = arg(),
    lease_ms = number(), renewals = {}, outcomes = {}, types = {},
  }
  for index = 1, number() do turn.renewals[index] = { ref = arg(), fence = arg(), progress = arg() } end
  for index = 1, number() do turn.outcomes[index] = read_outcome() end
  turn.want, turn.waits = number(), arg()
  for index = 1, number() do turn.types[index] = arg() end
  return turn
end

local function read()
  process, grace_ms, retention_ms = arg(), number(), number()
  woken_in_vain, outcome_refs, turns = {}, {}, {}
  for index = 1, number() do woken_in_vain[index] = arg() end
  for _ = 1, number() do
    local no, name = arg(), arg()
    lane_of(name:sub(1, -3), name:sub(-1), no)
  end
  for index = 1, number() do turns[index] = read_turn() end
end

-- Workers -------------------------------------------------------------------------------------------------------------

local function touch(turn)
  local worker = turn.worker
  if turn.leaves == '1' then
    if call('HDEL', P .. KEY.workers, worker) == 1 then
      call('ZREM', P .. KEY.seen, worker)
      call('HDEL', P .. KEY.worked, '+' .. worker, '-' .. worker)
      call('SADD', P .. KEY.gone, worker)
    end
  elseif turn.about ~= '' then
    call('HSET', P .. KEY.workers, worker, turn.about)
    call('ZADD', P .. KEY.seen, NOW, worker)
    if turn.went_well ~= '0' then call('HINCRBY', P .. KEY.worked, '+' .. worker, turn.went_well) end
    if turn.failed ~= '0' then call('HINCRBY', P .. KEY.worked, '-' .. worker, turn.failed) end
    for _, kind in ipairs(turn.types) do call('HSET', P .. KEY.known, kind, NOW) end
  end
end

-- Leases --------------------------------------------------------------------------------------------------------------

local function renew(renewal)
  local ref = renewal.ref
  local record = call('HGET', P .. KEY.leases, ref)
  local l = record and lease_of(record)
  if not l or l.fence ~= renewal.fence then return false end
  l.expires = string.format('%d', now + l.lease_ms)
  if renewal.progress ~= '' then l.progress = '1' end
  call('HSET', P .. KEY.leases, ref, join_lease(l))
  local lane = lane_by_ref(ref)
  call('ZADD', P .. KEY.running .. lane.type, string.format('%d', due_of(l, grace_ms)), ref)
  if renewal.progress ~= '' then
    call('HSET', P .. KEY.progress, ref, renewal.progress)
    read_tail(l)
    l.ref = ref
    tell('progress', lane, l, renewal.progress, 'null', 'null', '')
  end
  return { l.expires, l.cancel_at ~= '0' and 1 or 0 }
end

local function leave_lease(ref, lane)
  ended[#ended + 1] = ref
  append(ended_of, lane.type, ref)
  freed[lane.type] = (freed[lane.type] or 0) + 1
end

-- A permit of a group comes free; its lanes may have something for it.
local function leave_group(lane, group, ref, worker)
  if not group then return end
  call('SREM', P .. KEY.held .. lane.type .. '|' .. group, ref)
  if call('HINCRBY', P .. KEY.busy, worker, -1) <= 0 then call('HDEL', P .. KEY.busy, worker) end
  for _, other in ipairs(lanes_of_type(lane.type)) do end_aside(other, group) end
end

local function told_of(lane)
  local told = succeeded[lane]
  if not told then
    told = { refs = {}, attempts = {}, results = {} }
    succeeded[lane] = told
  end
  return told
end

-- Successes of this turn's own worker are told together, by lane.
local function succeed(ref, lane, entry, attempts, tail, result)
  leave_lease(ref, lane)
  append(left, lane, entry)
  finish(ref, 'success', 'success||' .. NOW .. '|' .. attempts .. '|' .. tail .. '\nnull\nnull\n' .. result)
  local told = told_of(lane)
  local place = #told.refs + 1
  told.refs[place], told.attempts[place], told.results[place] = ref, attempts, result
end

-- Tells of many: `["ended", type, worker, status, refs, attempts, [results]]`.
local function tell_succeeded(turn)
  for lane, told in pairs(succeeded) do
    local tasks = #told.refs
    count(lane.type, 'success', tasks)
    event(tasks, '["ended","' .. lane.type .. '",' .. turn.worker_json .. ',"success","' .. table.concat(told.refs, ' ')
      .. '","' .. table.concat(told.attempts, ' ') .. '",[' .. table.concat(told.results, ',') .. ']]')
  end
  succeeded = {}
end

-- A lease ends and its task becomes what was decided; `l` is the lease as it stands.
local function settle(o, l, lane)
  read_tail(l)
  local progress = l.progress == '1' and call('HGET', P .. KEY.progress, o.ref) or 'null'
  local attempts = o.attempts or string.format('%d', l.attempts + 1)
  local ran = attempts ~= l.attempts
  local key, group = key_and_group(l.x)
  local part = group_lane(lane, group)
  l.ref, l.attempts = o.ref, attempts
  l.lost, l.run_at = o.lost or l.lost, o.run_at or l.run_at
  leave_lease(o.ref, lane)
  if l.progress == '1' then call('HDEL', P .. KEY.progress, o.ref) end
  if o.status == 'pending' and not ran and tonumber(l.run_at) <= now then
    -- Given back: it keeps its place in the lane.
    call('HSET', P .. KEY.again, lane.no .. '.' .. l.entry, join_head(l) .. '\n' .. l.e)
    call('ZADD', part.back, 0, l.entry)
    call('XCLAIM', part.stream, WORKERS, '-', 0, l.entry, 'JUSTID')
    if group then
      call('HSET', P .. KEY.moved, o.ref, l.entry .. '|' .. group)
      count(lane.type, 'grouped', 1)
    elseif l.entry ~= o.ref:match('%.(.*)$') then
      call('HSET', P .. KEY.moved, o.ref, l.entry)
    end
    leave_group(lane, group, o.ref, l.worker)
    if group then join_ring(part, l.entry) end
    wake(lane.type, 1)
  else
    append(left, part, l.entry)
    leave_group(lane, group, o.ref, l.worker)
    if o.status ~= 'pending' then
      finish(o.ref, o.status, finished_text(o.status, o.reason, l, l.x, l.payload, o.error, progress, o.result))
      keep_key(key, retention_ms)
      count(lane.type, o.status, 1)
    elseif tonumber(l.run_at) > now then
      delay(lane, o.ref, l.run_at, join_head(l), l.x, o.error, l.payload)
    else
      enqueue(lane, o.ref, join_head(l), l.x, o.error, l.payload)
    end
  end
  tell(o.status, lane, l, progress, o.result, o.error, o.reason)
end

local function read_leases()
  held = {}
  for from = 1, #outcome_refs, CHUNK do
    local to = math.min(from + CHUNK - 1, #outcome_refs)
    local records = call('HMGET', P .. KEY.leases, unpack(outcome_refs, from, to))
    for index = from, to do held[outcome_refs[index]] = records[index - from + 1] end
  end
end

local function try_settle(o)
  local record = held[o.ref]
  local l = record and lease_of(record)
  if not l or l.fence ~= o.fence then return LOST end
  if (l.cancel_at ~= '0') ~= (o.cancel == '1') then return CHANGED end
  if o.status == 'success' and l.deadline ~= '0' and now >= tonumber(l.deadline) then return CHANGED end
  if o.due == '1' and due_of(l, grace_ms) > now then return CHANGED end
  held[o.ref] = nil
  local lane = lane_by_ref(o.ref)
  if o.own and l.progress == '0' and l.tail:find(PLAIN, 1, true) then
    succeed(o.ref, lane, l.entry, string.format('%d', l.attempts + 1), l.tail, o.result)
  else
    settle(o, l, lane)
  end
  return OK
end

-- Successes of leases whose records nothing has touched: what follows their common begin has a fixed width.
local function settle_run(run, verdicts)
  local lane, prefix, width = run.lane, run.prefix, #run.prefix
  local in_time = run.deadline == 0 or now < run.deadline
  for index, ref in ipairs(run.refs) do
    local record = held[ref]
    if record and in_time and record:sub(1, width) == prefix then
      held[ref] = nil
      succeed(ref, lane, run.entries[index], '1', record:sub(width + TAIL_AT), run.results[index])
      verdicts[#verdicts + 1] = OK
    else
      verdicts[#verdicts + 1] = try_settle(success(ref, prefix:match('^%d+'), run.results[index]))
    end
  end
end

-- What settlements took away, at once: limits are looked at after it.
local function clear_ended()
  if #ended == 0 then return end
  many('HDEL', P .. KEY.leases, ended)
  for kind, refs in pairs(ended_of) do many('ZREM', P .. KEY.running .. kind, refs) end
  for lane, entries in pairs(left) do
    for from = 1, #entries, CHUNK do
      local to = math.min(from + CHUNK - 1, #entries)
      call('XACK', lane.stream, WORKERS, unpack(entries, from, to))
      call('XDEL', lane.stream, unpack(entries, from, to))
    end
  end
end

-- Claims --------------------------------------------------------------------------------------------------------------

-- Tasks that waited too long stand in the way only until they are ended; should they be very many, a sweep goes on.
local PASSES = 20
-- Groups that came in the same millisecond and are told apart.
local TIES_MAX = 100

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
        prefix = '1' .. NOW .. '|0|0|' .. deadline .. '|' .. turn.lease_text .. '|' .. turn.expires .. '|',
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
  if lane.group then count(lane.type, 'grouped', -1) end
  local extras = x == '' and NO_EXTRAS or x
  local ends = wait_ends(head)
  if ends and ends <= now then
    end_wait(lane, head, extras, payload, retention_ms)
    return nil
  end
  local deadline, due = '0', now + turn.lease_ms
  if head.p ~= '0' then
    deadline = string.format('%d', now + head.p)
    due = math.min(due, now + head.p)
  end
  local deliveries = string.format('%d', head.deliveries + 1)
  local tail = table.concat({ head.lost, deliveries, head.q, head.p, head.r, head.run_at, NOW, turn.worker_json }, '|')
  local first = { deliveries .. NOW, '0', '0', deadline, turn.lease_text, turn.expires, entry, head.attempts, tail }
  if lane.group then
    call('SADD', P .. KEY.held .. lane.type .. '|' .. lane.group, ref)
    call('HINCRBY', P .. KEY.busy, turn.worker_json, 1)
  end
  for _, value in ipairs({ lane.name, '', ref, m, payload, x, e }) do tasks[#tasks + 1] = value end
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

-- Hands out up to `most` entries of a lane, what was given back first; returns how many it handed out and started.
local function take(turn, lane, most, tasks)
  local entries = {}
  local back = call('ZRANGE', lane.back, 0, most - 1)
  if #back > 0 then
    call('ZREM', lane.back, unpack(back))
    call('XCLAIM', lane.stream, WORKERS, turn.worker, 0, unpack(back))
    for index, entry in ipairs(back) do
      entries[index] = call('XRANGE', lane.stream, entry, entry)[1]
      entries[index].again = true
    end
  end
  if #entries < most then
    local most_read = most - #entries
    local read_now = call('XREADGROUP', 'GROUP', WORKERS, turn.worker, 'COUNT', most_read, 'STREAMS', lane.stream, '>')
    if read_now then
      for _, item in ipairs(read_now[1][2]) do entries[#entries + 1] = item end
    end
  end
  if #entries == 0 then return 0, 0 end
  return #entries, start(turn, lane, entries, tasks)
end

-- The part of a lane whose turn it is, and its first entry; nil when no group has anything that may start.
local function whose_turn(lane, group_limit)
  local ring = ring_of(lane)
  local alone = first_of(lane)
  if alone and not call('ZSCORE', ring, '') then join_ring(lane, alone) end
  for _ = 1, 10000 do
    local top = call('ZRANGE', ring, 0, 0, 'WITHSCORES')
    if not top[1] then return nil end
    local group = top[1]
    local part = group_lane(lane, group)
    local first = first_of(part)
    if first and tonumber(top[2]) < 0 then
      for _, other in ipairs(call('ZRANGEBYSCORE', ring, top[2], top[2], 'LIMIT', 1, TIES_MAX)) do
        local other_part = group_lane(lane, other)
        local other_first = first_of(other_part)
        if other_first and other_first < first then
          group, part, first = other, other_part, other_first
        end
      end
    end
    if not first then
      call('ZREM', ring, group)
      if group ~= '' then call('SADD', P .. KEY.idle .. lane.name, group) end
    elseif tonumber(top[2]) < 0 and tonumber(age_of(first)) ~= tonumber(top[2]) then
      -- Its first task is another one by now.
      call('ZADD', ring, age_of(first), group)
    elseif group ~= '' and group_limit and call('SCARD', P .. KEY.held .. lane.type .. '|' .. group) >= group_limit then
      call('ZREM', ring, group)
      call('SADD', P .. KEY.aside .. lane.name, group)
    else
      return part, first
    end
  end
end

local function served(part)
  local turn_no = string.format('%d', call('INCR', P .. KEY.ring_clock .. part.name))
  local group = part.group or ''
  call('ZADD', ring_of(part), turn_no, group)
  call('HSET', P .. KEY.served .. part.name, group, turn_no)
end

-- One of each group in turn.
local function take_in_turns(turn, lane, most, tasks, group_limit)
  local got = 0
  for _ = 1, most + PASSES do
    local part = got < most and whose_turn(lane, group_limit)
    if not part then break end
    local _, started = take(turn, part, 1, tasks)
    if started > 0 then served(part) end
    got = got + started
  end
  return got
end

-- Lanes of the same priority: the task that has been ready longest goes first, whichever type it is.
local function take_by_age(turn, open, tasks, rules, want)
  local parts, firsts = {}, {}
  local function look(index)
    local lane = open[index]
    if rules[lane.type].rings[lane] then
      parts[index], firsts[index] = whose_turn(lane, rules[lane.type].group_limit)
    else
      parts[index], firsts[index] = lane, first_of(lane)
    end
  end
  for index = 1, #open do look(index) end
  local got = 0
  for _ = 1, want + PASSES do
    local oldest, second
    for index = 1, #open do
      local first = firsts[index]
      if first and rules[open[index].type].free > 0 then
        if not oldest or first < firsts[oldest] then
          oldest, second = index, oldest and firsts[oldest]
        elseif not second or first < second then
          second = first
        end
      end
    end
    if not oldest or got == want then break end
    local rule, part = rules[open[oldest].type], parts[oldest]
    local most = math.min(want - got, rule.free)
    if rule.rings[open[oldest]] then
      most = 1
    elseif second then
      -- As many as are older than the next lane's first.
      local _, last = first_of(part)
      most = last and math.max(1, #call('XRANGE', part.stream, '(' .. last, second, 'COUNT', most)) or 1
    end
    local _, started = take(turn, part, most, tasks)
    if started > 0 and rule.rings[open[oldest]] then served(part) end
    got = got + started
    rule.free = rule.free - started
    look(oldest)
  end
  return got
end

-- The starts of a type that still count for its rate: `<at>,<how many>` each, oldest first, and their sum.
local function starts_left(kind, max, per_ms)
  local log, sum = P .. KEY.starts .. kind, tonumber(call('HGET', P .. KEY.started, kind) or 0)
  while sum > 0 do
    local oldest = call('LINDEX', log, 0)
    local time, starts = oldest:match('^(%d+),(%d+)$')
    if time + per_ms > now then break end
    call('LPOP', log)
    sum = call('HINCRBY', P .. KEY.started, kind, -starts)
  end
  return max - sum
end

local function log_starts(kind, starts)
  call('RPUSH', P .. KEY.starts .. kind, NOW .. ',' .. starts)
  call('HINCRBY', P .. KEY.started, kind, starts)
end

-- What the rules of the types let start: {lanes, free, limited ('type' or 'rate'), group_limit, rate} by type.
local function rules_of(kinds, want)
  local rules = {}
  if #kinds == 0 then return rules end
  local fields = {}
  for _, kind in ipairs(kinds) do
    fields[#fields + 1] = kind
    fields[#fields + 1] = kind .. '/lanes'
  end
  local values = call('HMGET', P .. KEY.rules, unpack(fields))
  for index, kind in ipairs(kinds) do
    local text = values[index * 2 - 1]
    if text then
      local paused, limit, group_limit, max, per = text:match('^(%d),(%d*),%l,(%d*),%l,(%d*),(%d*),')
      local rule = { free = paused == '1' and 0 or want, rings = {}, group_limit = tonumber(group_limit) }
      rules[kind] = rule
      if limit ~= '' and rule.free > 0 then
        rule.free = math.min(rule.free, limit - call('ZCARD', P .. KEY.running .. kind))
        if rule.free <= 0 then rule.limited = 'type' end
      end
      if max ~= '' then
        rule.max, rule.per = tonumber(max), tonumber(per)
        rule.free = math.min(rule.free, starts_left(kind, rule.max, rule.per))
        if rule.free <= 0 then rule.limited = rule.limited or 'rate' end
      end
      rule.lanes = rule.free > 0 and lanes_of(kind, values[index * 2]) or {}
    end
  end
  return rules
end

local function claim(turn)
  local tasks, want = {}, turn.want
  if want <= 0 or turn.leaves == '1' then return tasks, {} end
  turn.lease_text = string.format('%d', turn.lease_ms)
  turn.expires = string.format('%d', now + turn.lease_ms)
  local rules = rules_of(turn.types, want)
  local by_priority, before = {}, {}
  for _, kind in ipairs(turn.types) do
    local rule = rules[kind]
    before[kind] = claimed[kind] or 0
    for _, lane in ipairs(rule and rule.lanes or {}) do
      append(by_priority, lane.priority, lane)
      rule.rings[lane] = call('EXISTS', ring_of(lane)) == 1
    end
  end
  for digit = 9, 0, -1 do
    local open = by_priority[tostring(digit)]
    if open and want > 0 then
      local lane, rule = open[1], rules[open[1].type]
      if #open > 1 then
        want = want - take_by_age(turn, open, tasks, rules, want)
      elseif rule.rings[lane] then
        local got = take_in_turns(turn, lane, math.min(want, rule.free), tasks, rule.group_limit)
        want, rule.free = want - got, rule.free - got
      else
        for _ = 1, PASSES do
          local most = math.min(want, rule.free)
          if most <= 0 then break end
          local handed_out, started = take(turn, lane, most, tasks)
          want, rule.free = want - started, rule.free - started
          if handed_out < most or started == handed_out then break end
        end
      end
    end
  end
  for kind, rule in pairs(rules) do
    local starts = (claimed[kind] or 0) - before[kind]
    if rule.max and starts > 0 then log_starts(kind, starts) end
  end
  return tasks, rules
end

-- When a rate lets the next task start.
local function rate_allows_at(kind, rule)
  local sum = tonumber(call('HGET', P .. KEY.started, kind) or 0)
  for _, entry in ipairs(call('LRANGE', P .. KEY.starts .. kind, 0, -1)) do
    local time, starts = entry:match('^(%d+),(%d+)$')
    sum = sum - starts
    if sum < rule.max then return time + rule.per end
  end
  return now
end

-- Until something comes: whoever waits for a task is told of one, whoever waits for a permit of one that comes free.
local function wait(turn, rules)
  for _, kind in ipairs(turn.types) do
    local rule = rules[kind]
    local blocked = rule and rule.limited ~= nil
    for lane in pairs(rule and rule.rings or {}) do
      blocked = blocked or call('EXISTS', P .. KEY.aside .. lane.name) == 1
    end
    if blocked then call('SADD', P .. KEY.blocked .. kind, process) end
    if not blocked or not rule.limited then call('SADD', P .. KEY.waiting .. kind, process) end
    if rule and rule.limited == 'rate' then
      local allowed_at = string.format('%d', rate_allows_at(kind, rule))
      if next_due == '' or allowed_at < next_due then next_due = allowed_at end
      broadcast('due ' .. allowed_at)
    end
  end
end

-- The step ------------------------------------------------------------------------------------------------------------

function steps.turn()
  read()
  heads_of_turn, claimed = {}, {}
  ended, ended_of, left, freed, succeeded = {}, {}, {}, {}, {}
  read_leases()
  local answers = {}
  for index, turn in ipairs(turns) do
    touch(turn)
    -- Progress first: the last one reported belongs to the attempt that ends in this same turn.
    local renewals, outcomes = {}, {}
    for place, renewal in ipairs(turn.renewals) do
      renewals[place] = renew(renewal)
      held[renewal.ref] = held[renewal.ref] and call('HGET', P .. KEY.leases, renewal.ref)
    end
    for _, o in ipairs(turn.outcomes) do
      if o.entries then settle_run(o, outcomes) else outcomes[#outcomes + 1] = try_settle(o) end
    end
    tell_succeeded(turn)
    answers[index] = { renewals, outcomes }
  end
  clear_ended()
  local _, due = promote(1000)
  next_due = due
  for index, turn in ipairs(turns) do
    local tasks, rules = claim(turn)
    local cancels = call('SMEMBERS', P .. KEY.cancels .. turn.worker)
    if #cancels > 0 then call('DEL', P .. KEY.cancels .. turn.worker) end
    if turn.waits == '1' and #tasks == 0 and #cancels == 0 then wait(turn, rules) end
    answers[index][3], answers[index][4] = tasks, cancels
  end
  for kind, permits in pairs(freed) do free_permits(kind, permits - (claimed[kind] or 0)) end
  for _, kind in ipairs(woken_in_vain) do
    wake(kind, 1)
    free_permits(kind, 1)
  end
  write_finished()
  leave_behind()
  return { NOW, next_due, answers }
end
