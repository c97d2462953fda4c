-- Does all work that is due by time, at most `max` tasks of each kind; one process at a time does it.
--
-- KEYS  the partition's prefix
-- ARGV  now, this process, how long it remains the one that sweeps (ms), '1' if it has used the store before, max, how
--       long a finished task may be kept (ms), how many finished tasks may be kept, most events to keep, for how long
--       (ms), in how many bytes; how long an unseen worker is kept (ms)
-- Returns {'', ms for which another process remains the one that sweeps} | {'swept', number of tasks changed, 1 if
--       there is more, when to sweep next or '', {ref, lane's name, lease's head, …} of leases that are due, now, {id,
--       text, …} of schedules that are due: the caller decides on both, {id, notice, …}: the caller delivers them}
-- Cost  a few commands for each task that is changed, and for each of about fifty types: a sweep checks these in
--       rotation, and the others when something of them is due
local worker_ttl

-- Payloads are read with the entries, so the number is limited.
local ENTRIES_MAX = 100
-- The approximate number of fields of a hash that one sweep checks: a type has two in `rules`.
local FIELDS_AT_ONCE = 100

-- Returns the next fields of a hash and their values, in a cycle over many sweeps.
local function next_fields(key)
  local found = call('HSCAN', P .. key, call('HGET', P .. KEY.rounds, key) or '0', 'COUNT', FIELDS_AT_ONCE)
  call('HSET', P .. KEY.rounds, key, found[1])
  return found[2], found[1] == '0'
end

-- Ends tasks that waited too long for their first start.
local function end_waits(lane, limit_ms, field, seen)
  local last = last_handed_out(lane)
  if #seen < 24 or last > seen then seen = last end
  local until_ms = string.format('%d', now - limit_ms)
  local bound = math.min(max, ENTRIES_MAX)
  local entries = {}
  if now - limit_ms >= tonumber(seen:match('^%d+')) then
    entries = call('XRANGE', lane.stream, '(' .. seen, until_ms, 'COUNT', bound)
  end
  local dead = {}
  for _, item in ipairs(entries) do
    local entry, list = item[1], item[2]
    seen = entry
    local head = head_of(list[2], lane, entry)
    if head.q == tostring(limit_ms) and head.started == '0' then
      local x = NO_EXTRAS
      for index = 5, #list, 2 do
        if list[index] == 'x' then x = list[index + 1] end
      end
      dead[#dead + 1] = entry
      call('HDEL', P .. KEY.moved, head.ref)
      end_wait(lane, head, x, list[4])
    end
  end
  if #dead > 0 then call('XDEL', lane.stream, unpack(dead)) end
  if #entries > 0 then call('HSET', P .. KEY.waits, field, seen) end
  add(#entries == bound and max or #dead, max)
  local following = call('XRANGE', lane.stream, '(' .. seen, '+', 'COUNT', 1)[1]
  if following then
    call('ZADD', P .. KEY.waits_due, string.format('%d', following[1]:match('^%d+') + limit_ms), field)
  else
    call('HDEL', P .. KEY.waits, field)
    call('ZREM', P .. KEY.waits_due, field)
  end
end

-- Ends tasks in all lanes whose first task may have waited too long.
local function end_all_waits()
  local fields = next_fields(KEY.waits)
  for index = 1, #fields, 2 do call('ZADD', P .. KEY.waits_due, 'NX', '0', fields[index]) end
  for _, field in ipairs(call('ZRANGEBYSCORE', P .. KEY.waits_due, '-inf', NOW, 'LIMIT', 0, max)) do
    local no, limit = field:match('^(%d+):(%d+)$')
    end_waits(lane_by_ref(no .. '.0'), tonumber(limit), field, call('HGET', P .. KEY.waits, field) or '0-0')
  end
  soonest(tonumber(call('ZRANGE', P .. KEY.waits_due, 0, 0, 'WITHSCORES')[2]))
end

-- The same for tasks of groups, which have their own list; it may still contain tasks that have started in the
-- meantime.
local function end_group_waits()
  local due = call('ZRANGEBYSCORE', P .. KEY.group_waits, '-inf', NOW, 'LIMIT', 0, max)
  for _, ref in ipairs(due) do
    local found, text, entry, lane = find(ref)
    if found == 'W' then
      local m, x, payload = lines_of(text)
      local head = head_of(m, lane, entry)
      local ends = wait_ends(head)
      if ends and ends <= now then
        leave_lane(lane, ref, entry)
        end_wait(lane, head, x, payload)
      end
    end
  end
  if #due > 0 then many('ZREM', P .. KEY.group_waits, due) end
  add(#due, max)
  soonest(tonumber(call('ZRANGE', P .. KEY.group_waits, 0, 0, 'WITHSCORES')[2]))
end

-- Returns whether a task of the runs of a place, {lane number, first n, how many} each, is in the stream of its lane.
local RUNS_FIRST = 10
local function any_in_stream(ms, runs)
  for _, run in ipairs(runs) do
    local lane = lane_by_ref(run[1] .. '.0')
    local first, last = entry_id(ms, run[2]), entry_id(ms, run[2] + run[3] - 1)
    if #call('XRANGE', lane.stream, first, last, 'COUNT', 1) > 0 then return true end
  end
  return false
end

-- Returns the state of the tasks of a place in the index: all gone, at least one finished task kept, or at least one
-- still live; and the number of tasks checked.
local function state_of(place)
  if place[2][1] == 'r' then
    local found = find(place[2][2])
    return found == 'F' and 'kept' or found and 'live' or 'gone', 1
  end
  local ms, n = place[1]:match('^(%d+)-(%d+)$')
  n = tonumber(n)
  local refs, keys, runs = {}, {}, {}
  for no, tasks in place[2][2]:gmatch('(%d+)%*(%d+)') do
    runs[#runs + 1] = { no, n, tonumber(tasks) }
    n = n + tasks
  end
  if #runs <= RUNS_FIRST and any_in_stream(ms, runs) then return 'live' end
  -- Streams of very many lanes are checked last. In most cases the last task shows that the place is kept.
  local last_run = runs[#runs]
  if call('EXISTS', P .. KEY.finished .. last_run[1] .. '.' .. entry_id(ms, n - 1)) == 1 then return 'kept', 1 end
  for _, run in ipairs(runs) do
    for its_n = run[2], run[2] + run[3] - 1 do
      refs[#refs + 1] = run[1] .. '.' .. entry_id(ms, its_n)
      keys[#keys + 1] = P .. KEY.finished .. refs[#refs]
    end
  end
  for from = 1, #keys, CHUNK do
    local to = math.min(from + CHUNK - 1, #keys)
    if call('EXISTS', unpack(keys, from, to)) > 0 then return 'kept', #refs end
  end
  if #runs > RUNS_FIRST and any_in_stream(ms, runs) then return 'live' end
  -- In most cases the last task decides, at no cost.
  for _, key in ipairs({ KEY.delayed, KEY.dependent, KEY.grouped, KEY.moved, KEY.leases }) do
    if call('HEXISTS', P .. key, refs[#refs]) == 1 then return 'live' end
  end
  for from = 1, #refs, CHUNK do
    local to = math.min(from + CHUNK - 1, #refs)
    for _, key in ipairs({ KEY.delayed, KEY.dependent, KEY.grouped, KEY.moved, KEY.leases }) do
      for _, value in ipairs(call('HMGET', P .. key, unpack(refs, from, to))) do
        if value then return 'live', #refs end
      end
    end
  end
  return 'gone', #refs
end

-- Deletes places from the index whose tasks are gone, from the position that `key` holds. Stops at the first place that
-- is kept, because all later ones are kept as well, unless `on` says to continue.
local function tidy_index(key, most, on)
  local from = call('GET', P .. key) or '0-0'
  local places = call('XRANGE', P .. KEY.index, '(' .. from, '+', 'COUNT', most)
  local checked = 0
  for _, place in ipairs(places) do
    local state, tasks = state_of(place)
    if state == 'kept' and not on then break end
    if state == 'gone' then call('XDEL', P .. KEY.index, place[1]) end
    from = place[1]
    checked = checked + (tasks or 1)
    if checked > 2000 then
      more = more or not on
      break
    end
  end
  if on and #places < most then from = '0-0' end
  call('SET', P .. key, from)
end

local WORKERS_AT_ONCE = 10
local function remove_gone_workers()
  for _, worker in ipairs(call('ZRANGEBYSCORE', P .. KEY.seen, '-inf', now - worker_ttl, 'LIMIT', 0, max)) do
    call('HDEL', P .. KEY.workers, worker)
    call('ZREM', P .. KEY.seen, worker)
    call('SADD', P .. KEY.gone, worker)
  end
  -- The workers of a round are searched for in all lanes, some lanes per sweep.
  local going = call('SMEMBERS', P .. KEY.going)
  if #going == 0 then
    going = call('SRANDMEMBER', P .. KEY.gone, WORKERS_AT_ONCE)
    if #going == 0 then return end
    call('SADD', P .. KEY.going, unpack(going))
    call('HDEL', P .. KEY.rounds, KEY.lanes)
  end
  local names, is_over = next_fields(KEY.lanes)
  for index = 1, #names, 2 do
    if names[index]:sub(1, 1) ~= '#' then
      local stream = P .. KEY.lane .. names[index]
      for _, worker in ipairs(going) do
        if #call('XPENDING', stream, WORKERS, '-', '+', 1, worker) > 0 then
          call('SADD', P .. KEY.holding, worker)
        else
          call('XGROUP', 'DELCONSUMER', stream, WORKERS, worker)
        end
      end
    end
  end
  if not is_over then return end
  for _, worker in ipairs(going) do
    if call('SISMEMBER', P .. KEY.holding, worker) == 0 then call('SREM', P .. KEY.gone, worker) end
  end
  call('DEL', P .. KEY.going, P .. KEY.holding)
end

-- Deletes the positions of groups that have no task waiting; the position of tasks without a group is kept.
local function clear_rested(lane)
  local rested = P .. KEY.rested .. lane.name
  local alone = call('HGET', rested, '')
  call('UNLINK', rested)
  if alone then call('HSET', rested, '', alone) end
end

-- Collects the leases of a type that are due; the caller decides on them.
local function read_due_leases(kind, leases)
  local running = P .. KEY.running .. kind
  local refs = call('ZRANGEBYSCORE', running, '-inf', NOW, 'LIMIT', 0, max)
  if #refs > 0 then
    local records = call('HMGET', P .. KEY.leases, unpack(refs))
    for index, ref in ipairs(refs) do
      if records[index] then
        leases[#leases + 1] = ref
        leases[#leases + 1] = lane_by_ref(ref).name
        leases[#leases + 1] = records[index]:match('^[^\n]*')
      end
    end
    if #refs >= max then more = true end
  end
  local first = call('ZRANGE', running, 0, 0, 'WITHSCORES')
  if first[1] then
    call('ZADD', P .. KEY.leases_due, first[2], kind)
  else
    call('ZREM', P .. KEY.leases_due, kind)
  end
end

-- Corrects lanes that a lost message, or a process of the previous version, keeps from running.
local function repair_lanes(kind, rules)
  local waiting = tonumber(call('HGET', P .. KEY.counts, kind .. ':grouped') or 0)
  local lanes_here = lanes_of_type(kind)
  for _, lane in ipairs(lanes_here) do
    waiting = waiting + count_waiting_in(lane)
    if has_streams_of_groups(lane) and adopt_groups(lane) then more = true end
    if call('EXISTS', P .. KEY.rested .. lane.name) == 1 then clear_rested(lane) end
    recheck_limits(lane)
  end
  if rules:match('^%d,%d*,%l,(%d*),') ~= '' then group_permits.keep(kind) end
  local parked_until = call('ZSCORE', P .. KEY.parked, kind)
  local paused, limit = rules:match('^(%d),(%d*),')
  local may_start = paused == '0' and (limit == '' or call('ZCARD', P .. KEY.running .. kind) < tonumber(limit))
  if parked_until == 'inf' and may_start then unpark(kind) end
  for _, lane in ipairs(lanes_here) do
    local entry = call('HGET', P .. KEY.ready_lanes, lane.name)
    if waiting == 0 and entry then place_lane(lane, nil, entry) end
    if waiting > 0 and not entry and not parked_until then note_ready(lane, ANY_ENTRY) end
  end
  if waiting > 0 then
    wake(kind, 1)
    free_permits(kind, 1)
  end
end

local function check_types(leases)
  local checked, fields = {}, next_fields(KEY.rules)
  for index = 1, #fields, 2 do
    local kind = fields[index]
    if not kind:find('/', 1, true) then
      checked[kind] = true
      read_due_leases(kind, leases)
      repair_lanes(kind, fields[index + 1])
    end
  end
  for _, kind in ipairs(call('ZRANGEBYSCORE', P .. KEY.leases_due, '-inf', NOW, 'LIMIT', 0, max)) do
    if not checked[kind] then read_due_leases(kind, leases) end
  end
  for _, kind in ipairs(call('ZRANGEBYSCORE', P .. KEY.parked, '-inf', NOW, 'LIMIT', 0, max)) do unpark(kind) end
  soonest(tonumber(call('ZRANGE', P .. KEY.leases_due, 0, 0, 'WITHSCORES')[2]))
  soonest(tonumber(call('ZRANGEBYSCORE', P .. KEY.parked, '-inf', '(+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]))
end

local function due_schedules()
  local ids = call('ZRANGEBYSCORE', P .. KEY.ticks, '-inf', NOW, 'LIMIT', 0, max)
  soonest(tonumber(call('ZRANGEBYSCORE', P .. KEY.ticks, '(' .. NOW, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]))
  local due = {}
  for index, text in ipairs(#ids > 0 and call('HMGET', P .. KEY.schedules, unpack(ids)) or ids) do
    if text then due[#due + 1], due[#due + 2] = ids[index], text end
  end
  return due
end

-- Checks awaited tasks again at intervals, a bounded number at a time: reports again the changes that a failover has
-- lost, or that an older version of the program did not report.
local RECHECK_EVERY_MS, CHECKS_MAX = 10000, 500
local function recheck_awaited()
  local checked_at, from = (call('GET', P .. KEY.looked_at_awaited) or '0 -'):match('^(%d+) (.*)$')
  local places = call('ZRANGEBYLEX', P .. KEY.dependents, from, '+', 'LIMIT', 0, CHECKS_MAX)
  if #places == 0 and from == '-' then return end
  local next_check = checked_at + RECHECK_EVERY_MS
  if next_check > now then return soonest(next_check) end
  local checks, last = 0, nil
  for _, place in ipairs(places) do
    local ref = ref_of_age(place)
    local m, x = lines_of(call('HGET', P .. KEY.dependent, ref))
    local names, policy = names_in(x)
    local since = head_of(m, lane_by_ref(ref)).updated
    for _, name in ipairs(awaited_by(ref, names)) do
      local is_here, other = place_of(name)
      if is_here then
        add_successor(other, policy, name_of(ref), tonumber(since))
      else
        notify(name, 'await', name_of(ref), policy .. ' ' .. since)
      end
      checks = checks + 1
    end
    last = place
    if checks >= CHECKS_MAX then break end
  end
  local is_over = #places < CHECKS_MAX and last == places[#places]
  call('SET', P .. KEY.looked_at_awaited, NOW .. ' ' .. (is_over and '-' or '(' .. last))
end

-- Reads the notices for other partitions, a bounded number of bytes: a notice may carry a result.
local NOTICES_AT_ONCE = 8
local function read_notices()
  local notices, from, bytes, read = {}, '-', 0, nil
  repeat
    read = call('XRANGE', P .. KEY.notices, from, '+', 'COUNT', NOTICES_AT_ONCE)
    for _, item in ipairs(read) do
      notices[#notices + 1] = item[1]
      notices[#notices + 1] = item[2][2]
      from, bytes = '(' .. item[1], bytes + #item[2][2]
    end
  until #read < NOTICES_AT_ONCE or #notices >= 2 * max or bytes >= NOTICES_BYTES_MAX
  return notices
end

-- Returns whether this process is the one that sweeps; if not, for how long another process is.
local function is_maintainer(process, keep_ms)
  if call('SET', P .. KEY.keeper, process, 'NX', 'PX', keep_ms) then return true end
  if call('GET', P .. KEY.keeper) ~= process then return false, call('PTTL', P .. KEY.keeper) end
  call('PEXPIRE', P .. KEY.keeper, keep_ms)
  return true
end

local function drop_events_before(number)
  call('XTRIM', P .. KEY.events, 'MINID', string.format('%d', number))
  call('ZREMRANGEBYSCORE', P .. KEY.erased_events, '-inf', string.format('(%d', number))
end

-- Skipped positions are not events. Skips that lie before the first kept event are deleted.
local function trim_events(keep)
  local last = tonumber(call('GET', P .. KEY.event_clock) or '0')
  local skips = call('LRANGE', P .. KEY.event_skips, 0, -1)
  for index, skip in ipairs(skips) do
    local from, to = skip:match('^(%d+):(%d+)$')
    if last - to >= keep then
      for _ = index, #skips do call('RPOP', P .. KEY.event_skips) end
      break
    end
    keep, last = keep - (last - to), tonumber(from)
  end
  if last >= keep then drop_events_before(last - keep + 1) end
end

-- Deletes events by age and bytes. The newest entry stays, because readers continue from it. Reading an entry reads its
-- records, which may be large: a binary search finds the first entry to keep, and the others are not read.
local function trim_old_events(age_ms, bytes_max)
  local bytes = tonumber(call('GET', P .. KEY.event_bytes) or '0')
  local function number_of(entry) return tonumber((entry[1]:match('^%d+'))) end
  local function stays(entry)
    local its_bytes = bytes - tonumber(entry[2][8] or 0) + #entry[2][6]
    return tonumber(entry[2][4]) > now - age_ms and its_bytes <= bytes_max
  end
  local first = outbox_entries('-', 1)[1]
  if not first or stays(first) then return end
  local low, high = number_of(first) + 1, number_of(call('XREVRANGE', P .. KEY.events, '+', '-', 'COUNT', 1)[1])
  while low < high do
    local middle = math.floor((low + high) / 2)
    local entry = outbox_entries(string.format('%d', middle), 1)[1]
    if stays(entry) then high = middle else low = math.min(number_of(entry) + 1, high) end
  end
  if high > number_of(first) then drop_events_before(high) end
end

function steps.sweep()
  local keeps, another_ms = is_maintainer(arg(), arg())
  if not keeps then return { '', another_ms } end
  has_lost(arg())
  max, retention_ms, retention_count = number(), number(), number()
  local events_max, events_age, events_bytes = number(), number(), number()
  worker_ttl = number()
  changed, more, next_at = 0, false, math.huge
  refresh_totals()
  local promoted = promote(max)
  add(promoted, max)
  write_arrivals()
  end_all_waits()
  end_group_waits()
  local leases = {}
  check_types(leases)
  cascade.follow_on()
  add(cascade.informed, FOLLOWED_MAX)
  write_finished()
  add(remove_expired(), max)
  -- The steps below take a task that they do not find for removed.
  write_finished()
  tidy_index(KEY.index_tidied, 100, false)
  -- Tasks that were live when their neighbours were deleted are checked again, in a cycle.
  tidy_index(KEY.index_looked_at, 5, true)
  remove_gone_workers()
  recheck_awaited()
  write_finished()
  if call('EXISTS', P .. KEY.put_off) == 1 then
    more = true
    soonest(now)
  end
  finish_step()
  trim_events(events_max)
  trim_old_events(events_age, events_bytes)
  soonest(tonumber(call('ZRANGE', P .. KEY.due, 0, 0, 'WITHSCORES')[2]))
  local due = due_schedules()
  local next_text = next_at < math.huge and string.format('%d', next_at) or ''
  return { 'swept', changed, more and 1 or 0, next_text, leases, NOW, due, read_notices() }
end
