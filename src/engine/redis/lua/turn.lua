-- Turns of workers: renew leases, settle outcomes, claim tasks. Several turns in one step.
--
-- ARGV  now, this process, grace of a cancel (ms), how long a finished task may be kept (ms), number of types that
--       this process was woken for in vain, each; number of turns; each turn: the worker's id, the same as JSON, its
--       description as JSON or '' (nothing new), '1' if it leaves, lease in ms, number of renewals, (ref, fence,
--       progress or '') each; number of outcomes, each one of
--         'S', ref, fence, result: success of a lease of this worker, decided while no cancel was asked for
--         'O', ref, fence, cancel asked for (0|1), '1' if only when due, status, attempts, lost, run_at, reason, error,
--         result
--       how many tasks it wants, '1' if it waits, number of types, each type
-- Returns {now, when the next delayed task is ready or '', one for each turn: {renewals, outcomes, tasks, refs of its
--       leases to be canceled}}
--       renewal: {expires, cancel asked for} or false; outcome: 0 done | 1 the lease was lost | 2 decide again, it has
--       changed; tasks: `lane's name`, `head`, how many of that kind follow each other, lane's number, (entry, payload) each; or, where
--       the head is '', one with (ref, its own head, payload, extras or '', error or '')
-- Cost  per claim from a lane an XREADGROUP; for all together one HMGET, MSET, XACK, XDEL, ZREM, HDEL, HSET and ZADD
--       per type or lane
local process, grace_ms, retention_ms
local woken_in_vain, outcome_refs, turns
local worked, has_progress, held, claimed, kinds_of_turn
local ended, ended_of, left, freed, succeeded

local function append(lists, key, value)
  local list = lists[key]
  if not list then
    list = {}
    lists[key] = list
  end
  list[#list + 1] = value
end

-- Reading ---------------------------------------------------------------------------------------------------------------

local function read_outcome()
  local kind, ref, fence = arg(), arg(), arg()
  outcome_refs[#outcome_refs + 1] = ref
  if kind == 'S' then
    return {
      ref = ref, fence = fence, cancel = '0', status = 'success', result = arg(), reason = '', error = 'null', own = true,
    }
  end
  return {
    ref = ref, fence = fence, cancel = arg(), due = arg(), status = arg(), attempts = arg(), lost = arg(),
    run_at = arg(), reason = arg(), error = arg(), result = arg(),
  }
end

local function read_turn()
  local turn = { worker = arg(), worker_json = arg(), about = arg(), leaves = arg(), lease_ms = number() }
  turn.renewals, turn.outcomes, turn.types = {}, {}, {}
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
  for index = 1, number() do turns[index] = read_turn() end
end

-- Workers ---------------------------------------------------------------------------------------------------------------

local function touch(turn)
  local worker = turn.worker
  if turn.leaves == '1' then
    if call('HDEL', P .. KEY.workers, worker) == 1 then
      call('ZREM', P .. KEY.seen, worker)
      call('HDEL', P .. KEY.worked, '+' .. turn.worker_json, '-' .. turn.worker_json)
      call('SADD', P .. KEY.gone, worker)
    end
  elseif turn.about ~= '' then
    local time = string.format('%.0f', now)
    call('HSET', P .. KEY.workers, worker, turn.about)
    call('ZADD', P .. KEY.seen, time, worker)
    for _, kind in ipairs(turn.types) do call('HSET', P .. KEY.known, kind, time) end
  end
end

local function count_attempt(worker_json, ok)
  local field = (ok and '+' or '-') .. worker_json
  worked[field] = (worked[field] or 0) + 1
end

local OK, LOST, CHANGED = 0, 1, 2
local PLAIN = '\n' .. NO_EXTRAS .. '\n'

-- Leases ----------------------------------------------------------------------------------------------------------------

local function renew(renewal)
  local ref = renewal.ref
  local record = call('HGET', P .. KEY.leases, ref)
  local l = record and lease_of(record)
  if not l or l.fence ~= renewal.fence then return false end
  l.expires = string.format('%.0f', now + tonumber(l.lease_ms))
  call('HSET', P .. KEY.leases, ref, join_lease(l))
  local lane = lane_by_ref(ref)
  call('ZADD', P .. KEY.running .. lane.type, string.format('%.0f', due_of(l, grace_ms)), ref)
  if renewal.progress ~= '' then
    has_progress = true
    call('HSET', P .. KEY.progress, ref, renewal.progress)
    read_tail(l)
    l.ref = ref
    tell('progress', lane, l, renewal.progress, 'null', 'null', '')
  end
  return { string.format('%.0f', now + tonumber(l.lease_ms)), l.cancel_at ~= '0' and 1 or 0 }
end

local function leave_lease(ref, lane)
  ended[#ended + 1] = ref
  append(ended_of, lane.type, ref)
  freed[lane.type] = (freed[lane.type] or 0) + 1
end

-- Successes of this turn's own worker are told together, by lane.
local function succeed(o, l, lane, turn)
  local ref, attempts = o.ref, string.format('%d', l.attempts + 1)
  leave_lease(ref, lane)
  append(left, lane.no, l.entry)
  finish(ref, 'success', 'success||' .. NOW .. '|' .. attempts .. '|' .. l.tail .. '\nnull\nnull\n' .. o.result)
  if not l.tail:find(PLAIN, 1, true) then keep_key(l.tail:match('\n([^\n]*)'), retention_ms) end
  local told = succeeded[lane]
  if not told then
    told = { refs = {}, attempts = {}, results = {} }
    succeeded[lane] = told
  end
  local place = #told.refs + 1
  told.refs[place], told.attempts[place], told.results[place] = ref, attempts, o.result
end

-- Tells of many: `["ended", type, worker, status, refs, attempts, [results]]`.
local function tell_succeeded(turn)
  for lane, told in pairs(succeeded) do
    local tasks = #told.refs
    count(lane.type, 'success', tasks)
    worked['+' .. turn.worker_json] = (worked['+' .. turn.worker_json] or 0) + tasks
    event(tasks, '["ended","' .. lane.type .. '",' .. turn.worker_json .. ',"success","' .. table.concat(told.refs, ' ')
      .. '","' .. table.concat(told.attempts, ' ') .. '",[' .. table.concat(told.results, ',') .. ']]')
  end
  succeeded = {}
end

-- A lease ends and its task becomes what was decided; `l` is the lease as it stands.
local function settle(o, l, lane)
  read_tail(l)
  local progress = has_progress and call('HGET', P .. KEY.progress, o.ref) or 'null'
  local attempts = o.attempts or string.format('%d', l.attempts + 1)
  local ran = attempts ~= l.attempts
  l.ref, l.attempts = o.ref, attempts
  l.lost, l.run_at = o.lost or l.lost, o.run_at or l.run_at
  leave_lease(o.ref, lane)
  if ran then count_attempt(l.worker, o.status == 'success') end
  if o.status == 'pending' and not ran and tonumber(l.run_at) <= now then
    -- Given back: it keeps its place in the lane.
    call('HSET', P .. KEY.again, lane.no .. '.' .. l.entry, join_head(l) .. '\n' .. l.e)
    call('ZADD', lane.back, 0, l.entry)
    call('XCLAIM', lane.stream, WORKERS, '-', 0, l.entry, 'JUSTID')
    if l.entry ~= o.ref:match('%.(.*)$') then call('HSET', P .. KEY.moved, o.ref, l.entry) end
    count(lane.type, 'pending', 1)
    wake(lane.type, 1)
  else
    append(left, lane.no, l.entry)
    if o.status ~= 'pending' then
      finish(o.ref, o.status, finished_text(o.status, o.reason, l, l.x, l.payload, o.error, progress, o.result))
      keep_key(l.x, retention_ms)
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

local function try_settle(o, turn)
  local record = held[o.ref]
  local l = record and lease_of(record)
  if not l or l.fence ~= o.fence then return LOST end
  if (l.cancel_at ~= '0') ~= (o.cancel == '1') then return CHANGED end
  if o.status == 'success' and l.deadline ~= '0' and now >= tonumber(l.deadline) then return CHANGED end
  if o.due == '1' and due_of(l, grace_ms) > now then return CHANGED end
  held[o.ref] = nil
  local lane = lane_by_ref(o.ref)
  if o.own and not has_progress then succeed(o, l, lane, turn) else settle(o, l, lane) end
  return OK
end

-- What settlements took away, at once: limits are looked at after it.
local function clear_ended()
  if #ended == 0 then return end
  many('HDEL', P .. KEY.leases, ended)
  if has_progress then many('HDEL', P .. KEY.progress, ended) end
  for kind, refs in pairs(ended_of) do many('ZREM', P .. KEY.running .. kind, refs) end
  for no, entries in pairs(left) do
    local lane = lanes[no]
    for from = 1, #entries, CHUNK do
      local to = math.min(from + CHUNK - 1, #entries)
      call('XACK', lane.stream, WORKERS, unpack(entries, from, to))
      call('XDEL', lane.stream, unpack(entries, from, to))
    end
  end
end

-- Claims ----------------------------------------------------------------------------------------------------------------

-- Tasks that waited too long stand in the way only until they are ended; should they be very many, a sweep goes on.
local PASSES = 20

-- What all fresh tasks of a turn with the same head have in common.
local function kind_of(turn, m)
  local kinds = kinds_of_turn[turn]
  if not kinds then
    kinds = {}
    kinds_of_turn[turn] = kinds
  end
  local kind = kinds[m]
  if kind == nil then
    local q, p, r = m:match('^(%d+),(%d+),(%d+)$')
    kind = false
    if q then
      kind = { wait_ms = tonumber(q), due = now + turn.lease_ms, deadline = '0' }
      if p ~= '0' then
        local ends = now + tonumber(p)
        kind.deadline = string.format('%.0f', ends)
        if ends < kind.due then kind.due = ends end
      end
      kind.due = string.format('%.0f', kind.due)
      kind.prefix = '1|0|' .. turn.expires .. '|' .. turn.lease_text .. '|' .. kind.deadline .. '|'
      kind.middle = '|0|0|1|' .. q .. '|' .. p .. '|' .. r .. '|'
      kind.suffix = '|' .. NOW .. '|' .. turn.worker_json .. PLAIN
    end
    kinds[m] = kind
  end
  return kind
end

-- Starts the entries that a lane has handed out; those that have waited too long end instead. Returns how many started.
local function start(turn, lane, entries, tasks)
  local leases, running, refs, attempts, dead = {}, {}, {}, {}, {}
  local started = 0
  local prefix = lane.no .. '.'
  local run_of, run_place
  local function add(ref, record, due, attempt)
    started = started + 1
    local place = started * 2
    leases[place - 1], leases[place] = ref, record
    running[place - 1], running[place] = due, ref
    refs[started], attempts[started] = ref, attempt
  end
  local function start_again(entry, list, given_back)
    local m, payload, x, e = list[2], list[4], '', ''
    for index = 5, #list, 2 do
      if list[index] == 'x' then x = list[index + 1] else e = list[index + 1] end
    end
    if given_back then
      m, e = call('HGET', P .. KEY.again, prefix .. entry):match('^([^\n]*)\n(.*)$')
      call('HDEL', P .. KEY.again, prefix .. entry)
    end
    local head = head_of(m, lane, entry)
    local ref = head.ref
    if ref ~= prefix .. entry then call('HDEL', P .. KEY.moved, ref) end
    local extras = x == '' and NO_EXTRAS or x
    local wait_ms = tonumber(head.q)
    if wait_ms > 0 and head.started == '0' and tonumber(head.run_at) + wait_ms <= now then
      dead[#dead + 1] = entry
      end_wait(lane, head, extras, payload)
      keep_key(extras, retention_ms)
      return
    end
    local deadline, due = '0', now + turn.lease_ms
    if head.p ~= '0' then
      local ends = now + tonumber(head.p)
      deadline = string.format('%.0f', ends)
      if ends < due then due = ends end
    end
    local fence = string.format('%d', head.deliveries + 1)
    local tail = table.concat({ head.lost, fence, head.q, head.p, head.r, head.run_at, NOW, turn.worker_json }, '|')
    local record = table.concat({ fence, '0', turn.expires, turn.lease_text, deadline, entry, head.attempts, tail }, '|')
    record = table.concat({ record, extras, payload, e == '' and 'null' or e }, '\n')
    add(ref, record, string.format('%.0f', due), head.attempts)
    run_of = nil
    for _, value in ipairs({ lane.name, '', ref, m, payload, x, e }) do tasks[#tasks + 1] = value end
  end
  for _, item in ipairs(entries) do
    local entry, list = item[1], item[2]
    local m = list[2]
    local kind = not list[5] and not item.again and kind_of(turn, m)
    if kind and (kind.wait_ms == 0 or entry:sub(1, 13) + kind.wait_ms > now) then
      local payload = list[4]
      add(prefix .. entry, kind.prefix .. entry .. kind.middle .. entry:sub(1, 13) .. kind.suffix .. payload .. '\nnull',
        kind.due, '0')
      if run_of ~= m then
        run_of, run_place = m, #tasks + 3
        tasks[run_place - 2], tasks[run_place - 1], tasks[run_place], tasks[run_place + 1] = lane.name, m, 0, lane.no
      end
      tasks[run_place] = tasks[run_place] + 1
      local size = #tasks
      tasks[size + 1], tasks[size + 2] = entry, payload
    else
      start_again(entry, list, item.again)
    end
  end
  if #dead > 0 then
    call('XACK', lane.stream, WORKERS, unpack(dead))
    call('XDEL', lane.stream, unpack(dead))
  end
  if started > 0 then
    many('HSET', P .. KEY.leases, leases)
    many('ZADD', P .. KEY.running .. lane.type, running)
    count(lane.type, 'pending', -started)
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
    local read = call('XREADGROUP', 'GROUP', WORKERS, turn.worker, 'COUNT', most - #entries, 'STREAMS', lane.stream, '>')
    if read then
      for _, item in ipairs(read[1][2]) do entries[#entries + 1] = item end
    end
  end
  if #entries == 0 then return 0, 0 end
  return #entries, start(turn, lane, entries, tasks)
end

-- The entry that a lane would hand out next, or nil.
local function first_of(lane)
  local back = call('ZRANGE', lane.back, 0, 0)[1]
  if back then return back end
  local groups = call('XINFO', 'GROUPS', lane.stream)[1]
  local last
  for index = 1, #groups, 2 do
    if groups[index] == 'last-delivered-id' then last = groups[index + 1] end
  end
  local next_one = call('XRANGE', lane.stream, '(' .. last, '+', 'COUNT', 1)[1]
  return next_one and next_one[1], last
end

-- Lanes of the same priority: the task that has been ready longest goes first, whichever type it is.
local function take_by_age(turn, open, tasks, free, want)
  local heads = {}
  for index, lane in ipairs(open) do heads[index] = first_of(lane) or false end
  local got = 0
  while got < want do
    local oldest, second
    for index, head in ipairs(heads) do
      if head and free[open[index].type] > 0 then
        if not oldest or head < heads[oldest] then
          oldest, second = index, oldest and heads[oldest]
        elseif not second or head < second then
          second = head
        end
      end
    end
    if not oldest then break end
    local lane = open[oldest]
    local most = math.min(want - got, free[lane.type])
    if second then
      -- As many as are older than the next lane's first.
      local _, last = first_of(lane)
      most = last and math.min(most, #call('XRANGE', lane.stream, '(' .. last, second, 'COUNT', most)) or 1
    end
    local _, started = take(turn, lane, math.max(most, 1), tasks)
    got = got + started
    free[lane.type] = free[lane.type] - started
    heads[oldest] = first_of(lane) or false
  end
  return got
end

-- How many tasks of each type the rules let start, up to `want`; and the types that have come to their limit.
local function free_of(kinds, want)
  local free, full = {}, {}
  if #kinds == 0 then return free, full end
  local rules = call('HMGET', P .. KEY.rules, unpack(kinds))
  for index, kind in ipairs(kinds) do
    if rules[index] then
      local paused, limit = rules[index]:match('^(%d),(%d*)')
      free[kind] = paused == '1' and 0 or want
      if paused == '0' and limit ~= '' then
        free[kind] = math.min(want, tonumber(limit) - call('ZCARD', P .. KEY.running .. kind))
        if free[kind] <= 0 then full[kind] = true end
      end
    end
  end
  return free, full
end

local function claim(turn)
  local tasks, want = {}, turn.want
  turn.lease_text, turn.expires = string.format('%d', turn.lease_ms), string.format('%.0f', now + turn.lease_ms)
  if want <= 0 or turn.leaves == '1' then return tasks, {} end
  local free, full = free_of(turn.types, want)
  local by_priority = {}
  for _, kind in ipairs(turn.types) do
    if free[kind] and free[kind] > 0 then
      for digit in (call('HGET', P .. KEY.priorities, kind) or ''):gmatch('%d') do
        append(by_priority, digit, open_lane(kind, digit))
      end
    end
  end
  for digit = 9, 0, -1 do
    local open = by_priority[tostring(digit)]
    if open and want > 0 then
      if #open == 1 then
        local lane = open[1]
        local most, passes = math.min(want, free[lane.type]), 0
        while most > 0 and passes < PASSES do
          passes = passes + 1
          local handed_out, started = take(turn, lane, most, tasks)
          want, free[lane.type] = want - started, free[lane.type] - started
          if handed_out < most or started == handed_out then break end
          most = math.min(want, free[lane.type])
        end
      else
        want = want - take_by_age(turn, open, tasks, free, want)
      end
    end
  end
  for kind, left_over in pairs(free) do
    if left_over <= 0 then full[kind] = true end
  end
  return tasks, full
end

-- Until something comes: whoever waits for a task is told of one, whoever waits for a permit of one that comes free.
local function wait(turn, full)
  for _, kind in ipairs(turn.types) do
    call('SADD', P .. (full[kind] and KEY.blocked or KEY.waiting) .. kind, process)
  end
end

-- The step --------------------------------------------------------------------------------------------------------------

function steps.turn()
  read()
  worked, claimed, kinds_of_turn = {}, {}, {}
  ended, ended_of, left, freed, succeeded = {}, {}, {}, {}, {}
  has_progress = call('EXISTS', P .. KEY.progress) == 1
  read_leases()
  local answers = {}
  for index, turn in ipairs(turns) do
    touch(turn)
    -- Progress first: the last one reported belongs to the attempt that ends in this same turn.
    local renewals, outcomes = {}, {}
    for place, renewal in ipairs(turn.renewals) do renewals[place] = renew(renewal) end
    if #turn.renewals > 0 then
      for _, o in ipairs(turn.outcomes) do held[o.ref] = held[o.ref] and call('HGET', P .. KEY.leases, o.ref) end
    end
    for place, o in ipairs(turn.outcomes) do outcomes[place] = try_settle(o, turn) end
    tell_succeeded(turn)
    answers[index] = { renewals, outcomes }
  end
  clear_ended()
  promote(1000)
  for index, turn in ipairs(turns) do
    local tasks, full = claim(turn)
    local cancels = call('SMEMBERS', P .. KEY.cancels .. turn.worker)
    if #cancels > 0 then call('DEL', P .. KEY.cancels .. turn.worker) end
    if turn.waits == '1' and #tasks == 0 and #cancels == 0 then wait(turn, full) end
    answers[index][3], answers[index][4] = tasks, cancels
  end
  for kind, permits in pairs(freed) do free_permits(kind, permits - (claimed[kind] or 0)) end
  for _, kind in ipairs(woken_in_vain) do
    wake(kind, 1)
    free_permits(kind, 1)
  end
  for field, attempts in pairs(worked) do call('HINCRBY', P .. KEY.worked, field, attempts) end
  write_finished()
  leave_behind()
  local next_due = call('ZRANGE', P .. KEY.due, 0, 0, 'WITHSCORES')[2] or ''
  return { NOW, next_due, answers }
end
