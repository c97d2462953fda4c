-- Code shared by all steps. All files form one library, which is loaded once. Each step's files form one block, so a
-- variable that a file keeps outside its functions is state of the running step and must be set when the step begins.
--
-- KEYS  1: the partition's prefix (`xq:{0}:`), which starts every key that the step uses; KEY holds the rest of each
--       name (keys.ts)
-- ARGV  1: the time in ms, or '' for the clock of this server; the header of each step lists the others
--
-- A task is identified by its ref, `<lane>.<ms>-<n>`: the number of its lane (a type and a priority) and the stream
-- entry that it was accepted as. Each state has its own place:
--   waiting    an entry of the lane's stream, or for a task of a group a text in `grouped` (groups.lua). The entry is
--              the task's own or the one that `moved` names; `again` overrides the fields that changed while a returned
--              lease was held
--   delayed    a text in `delayed`, its time in `due`
--   dependent  a text in `dependent` (flows.lua)
--   running    still that entry, in the pending list of the workers; its lease is a record in `leases` and a member of
--              the type's zset `running`, whose size is checked against the limit
--   finished   a text in `finished:<ref>`, and a place in the stream of its status, oldest first
-- The text of a task consists of lines, which are JSON except for the first: head, extras (tags, key, group), payload,
-- error of the previous attempt. The text of a finished task also has error, progress and result.

-- The functions that the store calls, by name; each file adds one.
local steps = {}

local call, P, PARTITION, ARGV, at, now, NOW
local lanes, lanes_by_name, clock_ms, clock_n, clock_moved
local counts, events, event_count, wakes, permits_freed, broadcasts
local finished_texts, finished_refs
-- How long a finished task may be kept (ms), set by the steps in which tasks end. `retention` holds the values that
-- types set, as they were read, and the functions that read them (changes.lua): a table, because Lua allows 200 locals
-- in a file.
local retention_ms
local retention = {}
-- Refs and texts of the tasks that ended in this step, and how many of these values have been processed; whether any
-- task is awaited, if that is known; the number of notices written.
local to_follow, followed, anything_awaited, notices_written
-- The number of successors informed in this step, and the functions that bound it (flows.lua).
local cascade = {}
-- Tasks of groups that begin to wait: their texts, and the entries for the queues of their lanes (groups.lua).
local arrived, arriving
-- The leases of groups: `kept` holds the types whose leases are kept by group, as they were read (groups.lua).
local group_permits = {}
-- The number of tasks that became unfinished in this step, less the number of tasks that ended.
local opened
-- By prefix: whether this server has given positions to events since it started. No other variable outlives a step.
local has_given_positions = {}

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
  to_follow, followed, anything_awaited, notices_written, cascade.informed = {}, 0, nil, 0, 0
  arrived, arriving, opened, group_permits.kept = {}, {}, 0, {}
end

local function arg()
  at = at + 1
  return ARGV[at]
end
local function number()
  at = at + 1
  return tonumber(ARGV[at])
end

-- Calls a command with any number of values, after the key if there is one.
local function many(command, key, values)
  for from = 1, #values, CHUNK do
    local to = math.min(from + CHUNK - 1, #values)
    if key then call(command, key, unpack(values, from, to)) else call(command, unpack(values, from, to)) end
  end
end

-- Adds a value to one of many lists; creates the list if it does not exist.
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

-- Rules of a type: `paused,limit,source,limit of a group,source,rate's max,window,source`; a source is h (handler) or o
-- (operator). A type without rules is not handed out.
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

-- Returns the next lane number. The first task of a type and priority creates their lane, with a number that no other
-- lane of this partition has ever had. `#highest` holds the highest number; earlier versions did not write it, so it is
-- only the value to start from.
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

-- Returns the lane of a type and priority; creates it if it does not exist.
-- @param its_no the number of the lane if it existed before; a new lane gets it
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

-- Entries of a lane that have the same limit on their wait expire in the order of the stream. For each such limit,
-- `waits` holds the entry up to which sweeps have checked. A task costs nothing for this until it has waited that long.
local function watch_waits(lane, limit_ms)
  if limit_ms == '0' or lane[limit_ms] then return end
  lane[limit_ms] = true
  local field = lane.no .. ':' .. limit_ms
  if call('HSETNX', P .. KEY.waits, field, '0-0') == 1 then
    call('ZADD', P .. KEY.waits_due, string.format('%d', now + limit_ms), field)
  end
end

-- Returns the lane of a ref and the entry that the task was accepted as.
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

-- Entry ids are `<ms>-<n>`, always with 13 and 10 digits, so they sort as text; they increase over all lanes together.
-- Reserves `count` consecutive ids; returns the ms and the n of the first.
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

-- Results of a step: counts, events, wake-ups -------------------------------------------------------------------------

local is_of_final
do
  local final = { success = true, failed = true, canceled = true, timeout = true }
  function is_of_final(field) return final[field:match(':(%l+)$')] end
end

local function count(kind, status, change)
  local field = kind .. ':' .. status
  counts[field] = (counts[field] or 0) + change
end

-- Adds a record, a JSON array. One record may describe many tasks (event-records.ts).
local function event(tasks, json)
  events[#events + 1] = json
  event_count = event_count + tasks
end

-- Notifies up to `tasks` waiting processes that a type has a task to claim.
local function wake(kind, tasks) wakes[kind] = (wakes[kind] or 0) + tasks end

-- Notifies up to `permits` processes that are blocked by a limit of a type.
local function free_permits(kind, permits)
  if permits > 0 then permits_freed[kind] = (permits_freed[kind] or 0) + permits end
end

-- Sends a message to every process.
local function broadcast(message) broadcasts[#broadcasts + 1] = message end

local has_lost, outbox_entries, note_removed, finish_step
-- Defined in groups.lua.
local write_arrivals
do

-- A store that has lost everything (FLUSHDB) is incomplete until all processes have declared their handlers again,
-- which they do as soon as they are notified of the loss. Until then a type without rules is not handed out, and an
-- unknown type is not reported as unknown. `was_here`: '1' from a process that has used the store before.
function has_lost(was_here)
  local birth = call('GET', P .. KEY.birth)
  if not birth then
    birth = was_here == '1' and NOW or '0'
    call('SET', P .. KEY.birth, birth)
    if was_here == '1' then broadcast('lost') end
  end
  local redeclared_within_ms = 10000
  return tonumber(birth) + redeclared_within_ms > now
end

-- Wakes processes that wait for a type as one of many types.
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
      -- A process that has ended does not receive it; in a cluster only the sweep can detect that.
      if call('PUBLISH', CHANNEL.wake .. process, P .. ' ' .. kind) > 0 or CLUSTER then most = most - 1 end
    end
  end
end

-- Assigns positions to events. Returns the last position and the number of positions skipped before the first. A server
-- that has restarted, or has taken over, may have lost the last positions it gave: it continues above every position
-- that can have existed. A new store does the same.
local function give_positions()
  local last = call('INCRBY', P .. KEY.event_clock, event_count)
  local before = last - event_count
  if has_given_positions[P] and before > 0 then return last, 0 end
  has_given_positions[P] = true
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

-- Returns entries of the outbox from a position on (`-`, `<number>` or `(<number>-<skipped>`), in the format of XRANGE:
-- number of events, time, records, and the bytes of all records up to and including these. Erased entries are kept in a
-- zset, because an entry of a stream cannot be changed.
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

-- Records that a task was removed: events up to its end are then reported only for tasks that are kept.
function note_removed(ended_at)
  if ended_at > tonumber(call('GET', P .. KEY.ended_until) or '0') then
    call('SET', P .. KEY.ended_until, string.format('%d', ended_at))
  end
end

function finish_step()
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
