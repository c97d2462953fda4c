-- Shared by every step. All files make one library, loaded once, in which each is a block of its own: what a file keeps
-- outside its functions is the state of the step that runs, made anew at its begin. KEYS[1] is the partition's prefix
-- (`xq:{0}:`), which begins every key of the step; KEY holds the rest of the names (keys.ts). ARGV[1] is the time in
-- ms, or '' for this server's own.
--
-- A task is told by its ref, `<lane>.<ms>-<n>`: the number of its lane (a type and a priority) and the stream entry
-- that it was accepted as. Where it stands by now:
--   waiting    an entry of its lane's stream, or for a task of a group a text in `grouped`, see groups.lua: its own
--              entry or the one that `moved` names; `again` overrides what a lease that was given back has changed
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
-- How long a finished task may be kept (ms), set by the steps in which tasks end; what types say of it, as it was read,
-- and the functions that know it (changes.lua): Lua allows 200 locals in a file.
local retention_ms
local retention = {}
-- Ref and text of tasks that ended in this step, and how far those that wait for them were told; whether anything is
-- awaited, if it is known; notices that were left.
local to_follow, followed, anything_awaited, noticed
-- How many were told in this step, and the functions that bound it (flows.lua).
local cascade = {}
-- Tasks of groups that begin to wait: their texts, and what the queues of their lanes get; see groups.lua.
local arrived, arriving
-- How many tasks began to be unfinished in this step, less those that ended.
local opened
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
  finished_texts, finished_refs, retention.of_types = {}, {}, {}
  to_follow, followed, anything_awaited, noticed, cascade.told = {}, 0, nil, 0, 0
  arrived, arriving, opened = {}, {}, 0
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
  local field = lane.no .. ':' .. limit_ms
  if call('HSETNX', P .. KEY.waits, field, '0-0') == 1 then
    call('ZADD', P .. KEY.waits_due, string.format('%d', now + limit_ms), field)
  end
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

local is_of_final
do
  local final = { success = true, failed = true, canceled = true, timeout = true }
  function is_of_final(field) return final[field:match(':(%l+)$')] end
end

local function count(kind, status, change)
  local field = kind .. ':' .. status
  counts[field] = (counts[field] or 0) + change
end

-- One JSON array; a record may tell of many tasks at once, see event-records.ts.
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

local has_lost, outbox_entries, note_removed, leave_behind
-- See groups.lua.
local write_arrivals
do

-- A store that has lost everything (FLUSHDB) is not complete before all processes have told it of their handlers
-- again, which they do at once when they are told of the loss. Until then a type without rules is not handed out, and
-- one that is not known may well be. `was_here`: '1' from a process that has met the store before.
function has_lost(was_here)
  local birth = call('GET', P .. KEY.birth)
  if not birth then
    birth = was_here == '1' and NOW or '0'
    call('SET', P .. KEY.birth, birth)
    if was_here == '1' then broadcast('lost') end
  end
  local told_again_ms = 10000
  return tonumber(birth) + told_again_ms > now
end

-- Processes that wait for a type as one of many.
local function wake_of_typesets(kind, most)
  for _, id in ipairs(call('SMEMBERS', P .. KEY.waiting_typesets)) do
    if call('SISMEMBER', P .. KEY.typeset .. id, kind) == 1 then
      local process = call('SPOP', P .. KEY.waiting_for_typeset .. id)
      if not process then call('SREM', P .. KEY.waiting_typesets, id) end
      if process and (call('PUBLISH', CHANNEL.wake .. process, P .. ' ' .. kind) > 0 or CLUSTER) then
        most = most - 1
      end
      if most <= 0 then return end
    end
  end
end

local function wake_from(prefix, woken)
  local of_typesets = next(woken) and call('EXISTS', P .. KEY.waiting_typesets) == 1
  for kind, most in pairs(woken) do
    if of_typesets and most > 0 then wake_of_typesets(kind, most) end
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
function outbox_entries(from, most)
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
function note_removed(ended_at)
  if ended_at > tonumber(call('GET', P .. KEY.ended_until) or '0') then
    call('SET', P .. KEY.ended_until, string.format('%d', ended_at))
  end
end

function leave_behind()
  write_arrivals()
  if clock_moved then call('SET', P .. KEY.clock, string.format('%d-%d', clock_ms, clock_n)) end
  local finished = 0
  for field, change in pairs(counts) do
    if change ~= 0 then call('HINCRBY', P .. KEY.counts, field, change) end
    if is_of_final(field) then finished = finished + change end
  end
  if finished ~= 0 then call('HINCRBY', P .. KEY.totals, 'finished', finished) end
  if opened ~= 0 then call('HINCRBY', P .. KEY.totals, 'open', opened) end
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

-- The group of extras that name nothing else, and need no decoding.
local function group_alone(x) return x:match('^{},null,"([^"\\%c]+)"$') end

-- The idempotency key, the group and the batch of extras, each nil where there is none.
local function labels_of(extras)
  local _, key, group, batch = unpack(extras)
  local function given(label) return label ~= cjson.null and label or nil end
  return given(key), given(group), given(batch)
end
local function labels_in(x)
  if x == NO_EXTRAS then return nil end
  -- Most that have any have a group alone.
  local only_group = group_alone(x)
  if only_group then return nil, only_group end
  return labels_of(extras_in(x))
end

-- The head of an entry is what was asked for, `queue_timeout,process_timeout,max_retry`, and for a task that does not
-- come for the first time `,ref,attempts,lost,deliveries,run_at,started,updated,worker` after it.
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
      rest:match('^,([^,]+),(%d+),(%d+),(%d+),(%d+),(%d+),(%d+),(.*)$')
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
local function lease_of(record)
  local l = {}
  l.fence, l.cancel_at, l.progress, l.deadline, l.lease_ms, l.expires, l.entry, l.attempts, l.tail =
    record:match('^(%d+)|(%d+)|(%d)|(%d+)|(%d+)|(%d+)|([^|]+)|(%d+)|(.*)$')
  return l
end

local function read_tail(l)
  l.lost, l.deliveries, l.q, l.p, l.r, l.run_at, l.started, l.worker, l.x, l.payload, l.e =
    l.tail:match('^(%d+)|(%d+)|(%d+)|(%d+)|(%d+)|(%d+)|(%d+)|([^\n]*)\n([^\n]*)\n([^\n]*)\n([^\n]*)$')
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
