-- Shared by every step. All files make one library, loaded once, in which each is a block of its own: what a file keeps
-- outside its functions is the state of the step that runs, made anew at its begin. KEYS[1] is the partition's prefix
-- (`xq:{0}:`), which begins every key of the step; KEY holds the rest of the names (keys.ts). ARGV[1] is the time in
-- ms, or '' for this server's own.
--
-- A task is told by its ref, `<lane>.<ms>-<n>`: the number of its lane (a type and a priority) and the stream entry
-- that it was accepted as. Where it stands by now:
--   waiting    an entry of its lane's stream, or of its group's in that lane: its own or the one that `moved` names;
--              `again` overrides what a lease that was given back has changed
--   delayed    a text in `delayed`, its time in `due`
--   dependent  a text in `dependent`, see flows.lua
--   running    still that entry, in the workers' pending list; its lease is a record in `leases` and a place in the
--              type's zset `running`, whose length is what the limit is checked against
--   finished   a text in `finished:<ref>`, and a place in the stream of its status, oldest first
-- Texts of tasks are lines, all but the first JSON: head, extras (tags, key, group), payload, error of the attempt
-- before; and of a finished one also error, progress, result.

-- What the engine calls, by name: each file adds one.
local steps = {}

local call, P, PARTITION, ARGV, at, now, NOW
local lanes, lanes_by_name, clock_ms, clock_n, clock_moved
local counts, events, event_count, wakes, permits_freed, broadcasts
local finished_texts, finished_refs
-- How long a finished task may be kept (ms); set by the steps in which tasks end.
local retention_ms
-- Ref and text of tasks that ended in this step, and how far those that wait for them were told; whether anything is
-- awaited, if it is known; notices that were left.
local to_follow, followed, anything_awaited, noticed
-- How many were told in this step, and the functions that bound it (flows.lua): Lua allows 200 locals in a file.
local cascade = {}
-- By prefix: whether this server has given positions to events since it started. The only thing that outlives a step.
local goes_on = {}

local function begin(keys, args)
  call, P, ARGV, at = redis.call, keys[1], args, 1
  PARTITION = P:match('{(%d+)}')
  now = tonumber(args[1])
  if not now then
    local time = call('TIME')
    now = time[1] * 1000 + math.floor(time[2] / 1000)
  end
  NOW = string.format('%d', now)
  lanes, lanes_by_name, clock_ms, clock_n, clock_moved = {}, {}, nil, nil, false
  counts, events, event_count, wakes, permits_freed, broadcasts = {}, {}, 0, {}, {}, {}
  finished_texts, finished_refs = {}, {}
  to_follow, followed, anything_awaited, noticed, cascade.told = {}, 0, nil, 0, 0
end

local function arg()
  at = at + 1
  return ARGV[at]
end
local function number()
  at = at + 1
  return tonumber(ARGV[at])
end

-- A command for any number of values, after the key if there is one.
local function many(command, key, values)
  for from = 1, #values, CHUNK do
    local to = math.min(from + CHUNK - 1, #values)
    if key then call(command, key, unpack(values, from, to)) else call(command, unpack(values, from, to)) end
  end
end

-- Adds to one of many lists, which is made when it gets its first.
local function append(lists, key, value)
  local list = lists[key]
  if not list then
    list = {}
    lists[key] = list
  end
  list[#list + 1] = value
end

-- Lanes ---------------------------------------------------------------------------------------------------------------

local function lane_of(kind, priority, no)
  local name = kind .. ':' .. priority
  local lane = { no = no, type = kind, priority = priority, name = name, stream = P .. KEY.lane .. name }
  lane.back = P .. KEY.back .. name
  lanes[no], lanes_by_name[name] = lane, lane
  return lane
end

-- The part of a lane that holds the tasks of a group.
local function group_lane(lane, group)
  if not group or group == '' then return lane end
  local key = lane.name .. '|' .. group
  local part = lanes[key]
  if not part then
    part = {
      no = lane.no, type = lane.type, priority = lane.priority, name = lane.name, group = group,
      stream = P .. KEY.group_lane .. key, back = P .. KEY.back .. key,
    }
    lanes[key] = part
  end
  return part
end

-- Rules of a type: `paused,limit,who,limit of a group,who,rate's max,window,who`; who set it: h handler, o operator.
-- A type without them is not handed out.
local NEW_RULES = '0,,h,,h,,,h'

-- The lanes of a type, highest priority first: `priorities` are pairs `<priority>:<number>`.
local function lanes_of(kind, priorities)
  local found = {}
  for priority, no in (priorities or ''):gmatch('(%d):(%d+)') do
    found[#found + 1] = lanes[no] or lane_of(kind, priority, no)
  end
  return found
end

local function lanes_of_type(kind) return lanes_of(kind, call('HGET', P .. KEY.rules, kind .. '/lanes')) end

-- The lane of a type and priority; made when the first task comes, with a number that no other has ever had here.
-- The highest is noted; versions before did not, so it is only where to begin.
local function next_lane_number()
  local highest = tonumber(call('HGET', P .. KEY.lanes, '#highest') or 0)
  if highest == 0 then
    for _, field in ipairs(call('HKEYS', P .. KEY.lanes)) do
      highest = math.max(highest, tonumber(field:match('^#(%d+)$') or 0))
    end
  end
  repeat highest = highest + 1 until call('HEXISTS', P .. KEY.lanes, '#' .. string.format('%d', highest)) == 0
  call('HSET', P .. KEY.lanes, '#highest', string.format('%d', highest))
  return string.format('%d', highest)
end

-- @param its_no the number that a lane which is made gets, if it had one before
local function open_lane(kind, priority, its_no)
  local name = kind .. ':' .. priority
  if lanes_by_name[name] then return lanes_by_name[name] end
  local no = call('HGET', P .. KEY.lanes, name)
  if no then return lane_of(kind, priority, no) end
  no = its_no or next_lane_number()
  call('HSET', P .. KEY.lanes, name, no, '#' .. no, name)
  local lane = lane_of(kind, priority, no)
  call('XGROUP', 'CREATE', lane.stream, WORKERS, '0', 'MKSTREAM')
  local sorted = { priority .. ':' .. no }
  for other in (call('HGET', P .. KEY.rules, kind .. '/lanes') or ''):gmatch('[^,]+') do sorted[#sorted + 1] = other end
  table.sort(sorted, function(a, b) return a > b end)
  call('HSET', P .. KEY.rules, kind .. '/lanes', table.concat(sorted, ','))
  return lane
end

-- Entries of a lane with the same limit on their wait run out of it in their order in the stream: for each such limit
-- `waits` holds the entry up to which a sweep has looked. No task costs anything for it but when it has waited so long.
local function watch_waits(lane, limit_ms)
  if limit_ms == '0' or lane[limit_ms] then return end
  lane[limit_ms] = true
  call('HSETNX', P .. KEY.waits, lane.no .. ':' .. limit_ms, '0-0')
end

-- The lane and the entry that a ref was accepted as.
local function lane_by_ref(ref)
  local no, entry = ref:match('^(%d+)%.(.+)$')
  if not no then return nil end
  local lane = lanes[no]
  if not lane then
    local name = call('HGET', P .. KEY.lanes, '#' .. no)
    if not name then return nil end
    lane = lane_of(name:sub(1, -3), name:sub(-1), no)
  end
  return lane, entry
end

local function last_handed_out(lane)
  local group = call('XINFO', 'GROUPS', lane.stream)[1]
  for index = 1, #group, 2 do
    if group[index] == 'last-delivered-id' then return group[index + 1] end
  end
end

-- The entry that a lane would hand out next, or nil; and the last one that it has, if that comes out of the stream.
local function first_of(lane)
  local back = call('ZRANGE', lane.back, 0, 0)[1]
  if back then return back end
  local last = last_handed_out(lane)
  local following = call('XRANGE', lane.stream, '(' .. last, '+', 'COUNT', 1)[1]
  return following and following[1], last
end

local function count_waiting_in(lane)
  return call('XLEN', lane.stream) - call('XPENDING', lane.stream, WORKERS)[1] + call('ZCARD', lane.back)
end

-- The clock of entries ------------------------------------------------------------------------------------------------

-- Entry ids are `<ms>-<n>`, always 13 and 10 digits, so that they sort as text; they grow over all lanes together.
-- Reserves `count` ids in a row; returns the ms and the n of the first.
local function reserve(count, least_n)
  if not clock_ms then
    local last = call('GET', P .. KEY.clock)
    clock_ms, clock_n = 0, 0
    if last then clock_ms, clock_n = tonumber(last:sub(1, 13)), tonumber(last:sub(15)) end
  end
  local ms = math.max(now, 1e12)
  local n = least_n or 1e9
  if ms <= clock_ms then
    ms = clock_ms
    n = math.max(n, clock_n + 1)
  end
  clock_ms, clock_n, clock_moved = ms, n + count - 1, true
  return ms, n
end

local function entry_id(ms, n) return string.format('%d-%d', ms, n) end

-- What a step leaves behind: counts, events, wakes --------------------------------------------------------------------

local function count(kind, status, change)
  local field = kind .. ':' .. status
  counts[field] = (counts[field] or 0) + change
end

-- One JSON array; a record may tell of many tasks at once, see tail.ts.
local function event(tasks, json)
  events[#events + 1] = json
  event_count = event_count + tasks
end

-- Lets up to `tasks` waiting processes know that a type has something to claim.
local function wake(kind, tasks) wakes[kind] = (wakes[kind] or 0) + tasks end

-- Lets up to `permits` processes know that have come to a limit of a type.
local function free_permits(kind, permits)
  if permits > 0 then permits_freed[kind] = (permits_freed[kind] or 0) + permits end
end

-- Tells every process.
local function broadcast(message) broadcasts[#broadcasts + 1] = message end

-- A store that has lost everything (FLUSHDB) is not complete before all processes have told it of their handlers
-- again, which they do at once when they are told of the loss. Until then a type without rules is not handed out, and
-- one that is not known may well be. `was_here`: '1' from a process that has met the store before.
local TOLD_AGAIN_MS = 10000
local function has_lost(was_here)
  local birth = call('GET', P .. KEY.birth)
  if not birth then
    birth = was_here == '1' and NOW or '0'
    call('SET', P .. KEY.birth, birth)
    if was_here == '1' then broadcast('lost') end
  end
  return tonumber(birth) + TOLD_AGAIN_MS > now
end

local function wake_from(prefix, woken)
  for kind, most in pairs(woken) do
    while most > 0 do
      local process = call('SPOP', P .. prefix .. kind)
      if not process then break end
      -- One that is no more does not hear it; in a cluster only the sweep can tell.
      if call('PUBLISH', CHANNEL.wake .. process, P .. ' ' .. kind) > 0 or CLUSTER then most = most - 1 end
    end
  end
end

-- Positions for events: the last of them, and how many are left out before the first. A server that has started again,
-- or has taken over, may have lost the last ones that were given: it goes on above every one that there can have been,
-- and so does a store that starts anew.
local function give_positions()
  local last = call('INCRBY', P .. KEY.event_clock, event_count)
  local before = last - event_count
  if goes_on[P] and before > 0 then return last, 0 end
  goes_on[P] = true
  local first = math.max(before, now * 1000)
  last = first + event_count
  call('SET', P .. KEY.event_clock, string.format('%d', last))
  if before == 0 then
    call('SET', P .. KEY.event_birth, string.format('%d', first))
    return last, 0
  end
  if first > before then call('LPUSH', P .. KEY.event_skips, string.format('%d:%d', before, first)) end
  return last, first - before
end

-- Entries of the outbox from a place on (`-`, `<number>` or `(<number>-<left out>`), as XRANGE answers them: how many
-- events, when, their records, and the bytes of all records up to these. Those that were erased stand in a zset, since
-- an entry of a stream cannot be changed.
local function outbox_entries(from, most)
  local found = call('XRANGE', P .. KEY.events, from, '+', 'COUNT', most)
  if call('EXISTS', P .. KEY.erased_events) == 0 then return found end
  local last = #found == most and found[most][1]:match('^%d+') or '+inf'
  local first = from == '-' and '-inf' or from:match('^%(?%d+')
  for _, text in ipairs(call('ZRANGEBYSCORE', P .. KEY.erased_events, first, last, 'LIMIT', 0, most)) do
    local id, n, t, s, b = text:match('^([^|]*)|([^|]*)|([^|]*)|([^|]*)|(.*)$')
    found[#found + 1] = { id, { 'n', n, 't', t, 'b', b, 's', s } }
  end
  table.sort(found, function(a, b) return tonumber(a[1]:match('^%d+')) < tonumber(b[1]:match('^%d+')) end)
  for index = #found, most + 1, -1 do found[index] = nil end
  return found
end

-- Notes that a task was removed: events up to its end are told only of tasks that are kept.
local function note_removed(ended_at)
  if ended_at > tonumber(call('GET', P .. KEY.ended_until) or '0') then
    call('SET', P .. KEY.ended_until, string.format('%d', ended_at))
  end
end

local function leave_behind()
  if clock_moved then call('SET', P .. KEY.clock, string.format('%d-%d', clock_ms, clock_n)) end
  for field, change in pairs(counts) do
    if change ~= 0 then call('HINCRBY', P .. KEY.counts, field, change) end
  end
  if event_count > 0 then
    local body = '[' .. table.concat(events, ',') .. ']'
    local bytes = string.format('%d', call('INCRBY', P .. KEY.event_bytes, #body))
    local place = string.format('%d-%d', give_positions())
    call('XADD', P .. KEY.events, place, 'n', event_count, 't', NOW, 'b', body, 's', bytes)
    if call('EXISTS', P .. KEY.readers) == 1 then broadcast('events') end
  end
  wake_from(KEY.waiting, wakes)
  wake_from(KEY.blocked, permits_freed)
  for _, message in ipairs(broadcasts) do call('PUBLISH', CHANNEL.news, P .. ' ' .. message) end
end

-- Tasks where they stand ----------------------------------------------------------------------------------------------

-- Fields of a stream entry, or nil: { m = head, p = payload, x = extras, e = error }.
local function entry_of(stream, entry)
  local found = call('XRANGE', stream, entry, entry)[1]
  if not found then return nil end
  local fields = {}
  for index = 1, #found[2], 2 do fields[found[2][index]] = found[2][index + 1] end
  return fields
end

-- Reads extras; fails where they are no JSON.
local function read_extras(x) return cjson.decode('[' .. x .. ']') end
-- The same for those that are stored: tasks were accepted with halves of surrogate pairs before these were refused.
local function extras_in(x)
  local is_read, extras = pcall(read_extras, x)
  return is_read and extras or read_extras((x:gsub('\\ud[89a-f]%x%x', '\\ufffd')))
end

-- The idempotency key, the group and the batch of extras, each nil where there is none.
local function labels_of(extras)
  local _, key, group, batch = unpack(extras)
  local function given(label) return label ~= cjson.null and label or nil end
  return given(key), given(group), given(batch)
end
local function labels_in(x)
  if x == NO_EXTRAS then return nil end
  return labels_of(extras_in(x))
end

-- The head of an entry is what was asked for, `queue_timeout,process_timeout,max_retry`, and for a task that does not
-- come for the first time `,ref,attempts,lost,deliveries,run_at,started,updated,worker` after it.
local AGAIN = '^,([^,]+),(%d+),(%d+),(%d+),(%d+),(%d+),(%d+),(.*)$'
local function head_of(m, lane, entry)
  local head = {}
  local rest
  head.q, head.p, head.r, rest = m:match('^(%d+),(%d+),(%d+)(.*)$')
  if rest == '' then
    head.ref = lane.no .. '.' .. entry
    head.attempts, head.lost, head.deliveries, head.run_at = '0', '0', '0', entry:sub(1, 13)
    head.started, head.updated, head.worker = '0', head.run_at, 'null'
  else
    head.ref, head.attempts, head.lost, head.deliveries, head.run_at, head.started, head.updated, head.worker =
      rest:match(AGAIN)
  end
  return head
end

local function join_head(head)
  return table.concat({
    head.q, head.p, head.r, head.ref, head.attempts, head.lost, head.deliveries, head.run_at, head.started, NOW,
    head.worker,
  }, ',')
end

-- When a task that waits for its first start gives up, or nil.
local function wait_ends(head)
  if head.q == '0' or head.started ~= '0' then return nil end
  return head.run_at + head.q
end

-- A lease: `fence|cancel_at|progress|deadline|lease_ms|expires|entry|attempts|` and then the tail, which goes over into
-- the text of the finished task as it is: `lost|deliveries|q|p|r|run_at|started|worker`, and the lines after the head.
-- 0 is none, progress is 1 where some was reported, the worker is JSON. The fence is the number of deliveries and the
-- secret of the hand-out, in digits: nobody but its worker can name the lease, and should Redis lose its last moments,
-- the same delivery comes again with another secret.
local LEASE = '^(%d+)|(%d+)|(%d)|(%d+)|(%d+)|(%d+)|([^|]+)|(%d+)|(.*)$'
local TAIL = '^(%d+)|(%d+)|(%d+)|(%d+)|(%d+)|(%d+)|(%d+)|([^\n]*)\n([^\n]*)\n([^\n]*)\n([^\n]*)$'
local function lease_of(record)
  local l = {}
  l.fence, l.cancel_at, l.progress, l.deadline, l.lease_ms, l.expires, l.entry, l.attempts, l.tail = record:match(LEASE)
  return l
end

local function read_tail(l)
  l.lost, l.deliveries, l.q, l.p, l.r, l.run_at, l.started, l.worker, l.x, l.payload, l.e = l.tail:match(TAIL)
end

local function join_lease(l)
  return table.concat({
    l.fence, l.cancel_at, l.progress, l.deadline, l.lease_ms, l.expires, l.entry, l.attempts, l.tail,
  }, '|')
end

-- When something is due to happen to a lease: it expires, its attempt runs out of time, or the grace of a cancel ends.
local function due_of(l, grace_ms)
  local due = tonumber(l.expires)
  local deadline, cancel_at = tonumber(l.deadline), tonumber(l.cancel_at)
  if deadline > 0 and deadline < due then due = deadline end
  if cancel_at > 0 and cancel_at + grace_ms < due then due = cancel_at + grace_ms end
  return due
end

-- The letter of where a task was found, its text, and for W its entry and lane, for L its progress. Nil when there is
-- none.
local function find(ref)
  local finished = call('GET', P .. KEY.finished .. ref)
  if finished then return 'F', finished end
  local record = call('HGET', P .. KEY.leases, ref)
  if record then return 'L', record, call('HGET', P .. KEY.progress, ref) or 'null' end
  local delayed = call('HGET', P .. KEY.delayed, ref)
  if delayed then return 'D', delayed end
  local dependent = call('HGET', P .. KEY.dependent, ref)
  if dependent then return 'A', dependent end
  local lane, entry = lane_by_ref(ref)
  if not lane then return nil end
  local moved = call('HGET', P .. KEY.moved, ref)
  if moved then
    local group
    entry, group = moved:match('^([^|]+)|?(.*)$')
    lane = group_lane(lane, group)
  end
  local fields = entry_of(lane.stream, entry)
  if not fields then return nil end
  local head, e = fields.m, fields.e or 'null'
  local again = call('HGET', P .. KEY.again, lane.no .. '.' .. entry)
  if again then head, e = again:match('^([^\n]*)\n(.*)$') end
  return 'W', table.concat({ head, fields.x or NO_EXTRAS, fields.p, e }, '\n'), entry, lane
end

-- A text without what may be long.
local function bare_text(text) return (text:match('^[^\n]*\n[^\n]*')) .. '\nnull' end

-- Head, extras, payload and error before of a text.
local function lines_of(text) return text:match('^([^\n]*)\n([^\n]*)\n([^\n]*)\n([^\n]*)') end

-- Groups --------------------------------------------------------------------------------------------------------------

-- Whose turn it is among the groups of a lane: a zset of those that may have something to hand out, by when they were
-- last served. What was never served stands before all that were, by the age of its first task; among those of one ms
-- the entries tell. A group whose limit is reached is set aside until a permit of it comes free; one that turns out to
-- have nothing leaves.
local NEVER_SERVED = -9e15

local function age_of(entry) return string.format('%d', NEVER_SERVED + entry:sub(1, 13)) end

local function ring_of(lane) return P .. KEY.ring .. lane.name end

-- A task of a group became ready, or a permit of it came free. Scores tell newcomers apart by the ms only; `newcomers`
-- has their exact order.
local function join_ring(lane, entry, has_new_stream)
  local group, aside = lane.group or '', P .. KEY.aside .. lane.name
  if not has_new_stream then
    if call('ZSCORE', ring_of(lane), group) or call('SISMEMBER', aside, group) == 1 then return end
  end
  local served_at = call('HGET', P .. KEY.served .. lane.name, group)
  local added = call('ZADD', ring_of(lane), 'NX', served_at or age_of(entry), group)
  if added == 1 and not served_at then call('ZADD', P .. KEY.newcomers .. lane.name, 0, entry .. '|' .. group) end
end

-- The first task of a group is gone: a group that was never served is now as old as its next task.
local function renew_age(lane, entry)
  local group = lane.group or ''
  if call('ZREM', P .. KEY.newcomers .. lane.name, entry .. '|' .. group) == 0 then return end
  call('ZREM', ring_of(lane), group)
  local first = first_of(lane)
  if first then join_ring(lane, first) end
end

-- Groups whose streams are empty give them up, and leave the rotation: each member of it has a stream. The sweep
-- forgets when they were last served.
local function remove_groups(lane_name, streams, groups)
  many('DEL', nil, streams)
  many('ZREM', P .. KEY.ring .. lane_name, groups)
  many('SADD', P .. KEY.idle .. lane_name, groups)
end

-- A group's limit may let more of it start.
local function end_aside(lane, group)
  if call('SREM', P .. KEY.aside .. lane.name, group) == 0 then return end
  local part = group_lane(lane, group)
  if call('EXISTS', part.stream) == 0 then return end
  local first = first_of(part)
  if first then
    join_ring(part, first)
    wake(lane.type, 1)
    free_permits(lane.type, 1)
  end
end

-- Changes -------------------------------------------------------------------------------------------------------------

-- Adds an entry to a lane, or to its group's part, where it is looked for by its ref.
local function add_to_group(lane, group, ref, entry, fields, ends)
  local part = group_lane(lane, group)
  local is_new = call('EXISTS', part.stream) == 0
  if is_new then call('XGROUP', 'CREATE', part.stream, WORKERS, '0', 'MKSTREAM') end
  call('XADD', part.stream, entry, unpack(fields))
  call('HSET', P .. KEY.moved, ref, entry .. '|' .. group)
  if ends then call('ZADD', P .. KEY.group_waits, string.format('%d', ends), ref) end
  count(lane.type, 'grouped', 1)
  join_ring(part, entry, is_new)
end

-- Puts a task that is ready at the end of its lane.
local function enqueue(lane, ref, m, x, e, payload)
  local id = entry_id(reserve(1))
  local fields = { 'm', m, 'p', payload }
  if x ~= NO_EXTRAS then
    fields[#fields + 1] = 'x'
    fields[#fields + 1] = x
  end
  if e ~= 'null' then
    fields[#fields + 1] = 'e'
    fields[#fields + 1] = e
  end
  local _, group = labels_in(x)
  if group then
    add_to_group(lane, group, ref, id, fields, wait_ends(head_of(m, lane, id)))
  else
    call('XADD', lane.stream, id, unpack(fields))
    call('HSET', P .. KEY.moved, ref, id)
  end
  wake(lane.type, 1)
end

-- Puts a task aside until its time.
local function delay(lane, ref, run_at, m, x, e, payload)
  call('HSET', P .. KEY.delayed, ref, table.concat({ m, x, payload, e }, '\n'))
  call('ZADD', P .. KEY.due, run_at, ref)
  count(lane.type, 'delayed', 1)
  if call('ZRANGE', P .. KEY.due, 0, 0)[1] == ref then broadcast('due ' .. run_at) end
end

-- Makes delayed tasks ready whose time has come; returns how many, and when the next one is ready or ''.
local function promote(max)
  local first = call('ZRANGE', P .. KEY.due, 0, 0, 'WITHSCORES')
  if not first[1] or tonumber(first[2]) > now then return 0, first[2] or '' end
  local due = call('ZRANGEBYSCORE', P .. KEY.due, '-inf', NOW, 'LIMIT', 0, max)
  for _, ref in ipairs(due) do
    local lane = lane_by_ref(ref)
    local m, x, payload, e = lines_of(call('HGET', P .. KEY.delayed, ref))
    enqueue(lane, ref, m, x, e, payload)
    count(lane.type, 'delayed', -1)
  end
  many('ZREM', P .. KEY.due, due)
  many('HDEL', P .. KEY.delayed, due)
  return #due, call('ZRANGE', P .. KEY.due, 0, 0, 'WITHSCORES')[2] or ''
end

-- Texts to write, and refs by status for the order of retention.
local function finish(ref, status, text)
  local size = #finished_texts
  finished_texts[size + 1], finished_texts[size + 2] = P .. KEY.finished .. ref, text
  append(finished_refs, status, ref)
  size = #to_follow
  to_follow[size + 1], to_follow[size + 2] = ref, text
end

-- The text of a task that ended: `status|reason|completed|attempts|`, the tail as a lease has it, and what came of it.
local function finished_text(status, reason, head, x, payload, e, progress, result)
  local tail = table.concat({
    head.lost, head.deliveries, head.q, head.p, head.r, head.run_at, head.started, head.worker,
  }, '|')
  local first = table.concat({ status, reason, NOW, head.attempts, tail }, '|')
  return table.concat({ first, x, payload, 'null', e, progress, result }, '\n')
end

-- A known idempotency key goes with its task: it lives on as long as a finished task may be kept.
local function keep_key(key, kept_ms)
  if not key then return end
  if kept_ms then
    call('PEXPIRE', P .. KEY.key .. key, kept_ms)
  else
    call('PERSIST', P .. KEY.key .. key)
  end
end

local follow
local function write_finished()
  follow()
  for from = 1, #finished_texts, CHUNK do
    call('MSET', unpack(finished_texts, from, math.min(from + CHUNK - 1, #finished_texts)))
  end
  for status, refs in pairs(finished_refs) do
    call('XADD', P .. KEY.done .. status, '*', 't', NOW, 'r', table.concat(refs, ' '))
  end
end

-- A place among those that ended in a status holds for a task only if it has not been taken back since: one that has
-- ended there again has another place.
local function note_taken_back(ref, status)
  local last = call('XREVRANGE', P .. KEY.done .. status, '+', '-', 'COUNT', 1)[1]
  if last then call('HSET', P .. KEY.taken_back, ref .. ' ' .. status, last[1]) end
end
local function is_its_place(ref, status, place, text)
  if text:match('^(%l+)|') ~= status or text:match('^%l+|[%l_]*|(%d+)|') ~= place[2][2] then return false end
  local before = call('HGET', P .. KEY.taken_back, ref .. ' ' .. status)
  if not before then return true end
  local ms, n = before:match('^(%d+)-(%d+)$')
  local place_ms, place_n = place[1]:match('^(%d+)-(%d+)$')
  ms, place_ms = tonumber(ms), tonumber(place_ms)
  return place_ms > ms or (place_ms == ms and tonumber(place_n) > tonumber(n))
end

-- Tells of one task: `[status, type, worker, ref, attempts, progress, result, error, reason]`.
local function tell(status, lane, head, progress, result, e, reason)
  event(1, string.format('["%s","%s",%s,"%s",%s,%s,%s,%s,"%s"]', status, lane.type, head.worker, head.ref,
    head.attempts, progress, result, e, reason))
end

-- Takes a waiting task out of its lane.
local function leave_lane(lane, ref, entry)
  call('XACK', lane.stream, WORKERS, entry)
  call('XDEL', lane.stream, entry)
  call('ZREM', lane.back, entry)
  call('HDEL', P .. KEY.again, lane.no .. '.' .. entry)
  call('HDEL', P .. KEY.moved, ref)
  if lane.group then
    count(lane.type, 'grouped', -1)
    call('ZREM', P .. KEY.group_waits, ref)
  end
  renew_age(lane, entry)
  if lane.group and call('XLEN', lane.stream) == 0 then remove_groups(lane.name, { lane.stream }, { lane.group }) end
end

-- Ends a task that waited too long for its first start; its entry is the caller's to remove.
local function end_wait(lane, head, x, payload)
  finish(head.ref, 'timeout', finished_text('timeout', 'queue_wait', head, x, payload, WAIT_ERROR, 'null', 'null'))
  keep_key(labels_in(x), retention_ms)
  count(lane.type, 'timeout', 1)
  tell('timeout', lane, head, 'null', 'null', WAIT_ERROR, 'queue_wait')
end

-- What `restoring` holds when the partition has everything that its log told it. The key is lost together with all
-- else: that it is missing tells of the loss.
local RESTORED = 'complete'
local function is_restored() return call('GET', P .. KEY.restoring) == RESTORED end
-- Schedules -----------------------------------------------------------------------------------------------------------

-- Writes a schedule and when it ticks next, '' for never.
local function move_schedule(id, text, next_at)
  call('HSET', P .. KEY.schedules, id, text)
  if next_at == '' then
    call('ZREM', P .. KEY.ticks, id)
  else
    call('ZADD', P .. KEY.ticks, next_at, id)
  end
end
