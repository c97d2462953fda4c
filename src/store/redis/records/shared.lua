-- Code shared by all steps. All files form one library, which is loaded once. Each step's files form one block.
--
-- A call of a step has one table, `step`, which `begin` makes and which is passed to every function that needs it: the
-- time, the prefix of its keys, its arguments, what it has read, and what it writes at its end. No variable outside a
-- function changes while a step runs.
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

-- `redis.call` does not exist yet when the library is loaded.
local call
-- By prefix: whether this server has given positions to events since it started. Nothing else outlives a step.
local has_given_positions = {}

local function begin(keys, args)
  call = redis.call
  local prefix, now = keys[1], tonumber(args[1])
  if not now then
    local time = call('TIME')
    now = time[1] * 1000 + math.floor(time[2] / 1000)
  end
  return {
    prefix = prefix, partition = prefix:match('{(%d+)}'), now = now, now_text = string.format('%d', now),
    -- The arguments, and the place of the last one that was read.
    args = args, at = 1,
    -- What the step has read: lanes by number and by name, the retention of types, the types whose leases are kept by
    -- group, whether any task is awaited. `clock_ms` and `clock_n` are the last entry id given.
    lanes = {}, lanes_by_name = {}, retention_of_types = {}, group_permits_kept = {}, anything_awaited = nil,
    clock_ms = nil, clock_n = nil, clock_moved = false,
    -- How long a finished task may be kept (ms), set by the steps in which tasks end.
    retention_ms = nil,
    -- Written by `finish_step`: changes of counts, events, messages to processes. `opened` is the number of tasks that
    -- became unfinished, less the number of tasks that ended.
    counts = {}, events = {}, event_count = 0, wakes = {}, permits_freed = {}, broadcasts = {}, opened = 0,
    -- Tasks of groups that begin to wait: their texts, and the entries for the queues of their lanes (groups.lua).
    arrived = {}, arriving = {},
    -- Written by `write_finished`: texts of tasks that ended, and their refs in the order of removal.
    finished_texts = {}, finished_refs = {},
    -- Refs and texts of the tasks that ended, and how many of these values have been processed; the number of
    -- successors informed (cascades.lua), and of notices written (flows.lua).
    to_follow = {}, followed = 0, informed = 0, notices_written = 0,
  }
end

local function arg(step)
  step.at = step.at + 1
  return step.args[step.at]
end
local function number(step)
  step.at = step.at + 1
  return tonumber(step.args[step.at])
end
-- Returns the next `count` arguments.
local function next_args(step, count)
  local at = step.at
  step.at = at + count
  return unpack(step.args, at + 1, at + count)
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

-- Results of a step: counts, events, wake-ups -------------------------------------------------------------------------

local is_of_final
do
  local final = { success = true, failed = true, canceled = true, timeout = true }
  function is_of_final(field) return final[field:match(':(%l+)$')] end
end

local function count(step, kind, status, change)
  local field = kind .. ':' .. status
  step.counts[field] = (step.counts[field] or 0) + change
end

-- Adds a record, a JSON array. One record may describe many tasks (event-records.ts).
local function event(step, tasks, json)
  step.events[#step.events + 1] = json
  step.event_count = step.event_count + tasks
end

-- Notifies up to `tasks` waiting processes that a type has a task to claim.
local function wake(step, kind, tasks) step.wakes[kind] = (step.wakes[kind] or 0) + tasks end

-- Notifies up to `permits` processes that are blocked by a limit of a type.
local function free_permits(step, kind, permits)
  if permits > 0 then step.permits_freed[kind] = (step.permits_freed[kind] or 0) + permits end
end

-- Sends a message to every process.
local function broadcast(step, message) step.broadcasts[#step.broadcasts + 1] = message end

local has_lost, outbox_entries, note_removed, finish_step
-- Defined in groups.lua.
local write_arrivals
do

-- A store that has lost everything (FLUSHDB) is incomplete until all processes have declared their handlers again,
-- which they do as soon as they are notified of the loss. Until then a type without rules is not handed out, and an
-- unknown type is not reported as unknown. `was_here`: '1' from a process that has used the store before.
function has_lost(step, was_here)
  local prefix = step.prefix
  local birth = call('GET', prefix .. KEY.birth)
  if not birth then
    birth = was_here == '1' and step.now_text or '0'
    call('SET', prefix .. KEY.birth, birth)
    if was_here == '1' then broadcast(step, 'lost') end
  end
  local redeclared_within_ms = 10000
  return tonumber(birth) + redeclared_within_ms > step.now
end

-- Wakes processes that wait for a type as one of many types.
local function wake_of_typesets(step, kind, most)
  local prefix = step.prefix
  for _, id in ipairs(call('SMEMBERS', prefix .. KEY.waiting_typesets)) do
    if call('SISMEMBER', prefix .. KEY.typeset .. id, kind) == 1 then
      local process = call('SPOP', prefix .. KEY.waiting_for_typeset .. id)
      if not process then call('SREM', prefix .. KEY.waiting_typesets, id) end
      if process and (call('PUBLISH', CHANNEL.wake .. process, prefix .. ' ' .. kind) > 0 or CLUSTER) then
        most = most - 1
      end
      if most <= 0 then return end
    end
  end
end

local function wake_from(step, prefix, woken)
  local of_typesets = next(woken) and call('EXISTS', step.prefix .. KEY.waiting_typesets) == 1
  for kind, most in pairs(woken) do
    if of_typesets and most > 0 then wake_of_typesets(step, kind, most) end
    while most > 0 do
      local process = call('SPOP', step.prefix .. prefix .. kind)
      if not process then break end
      -- A process that has ended does not receive it; in a cluster only the sweep can detect that.
      if call('PUBLISH', CHANNEL.wake .. process, step.prefix .. ' ' .. kind) > 0 or CLUSTER then most = most - 1 end
    end
  end
end

-- Assigns positions to events. Returns the last position and the number of positions skipped before the first. A server
-- that has restarted, or has taken over, may have lost the last positions it gave: it continues above every position
-- that can have existed. A new store does the same.
local function give_positions(step)
  local prefix = step.prefix
  local last = call('INCRBY', prefix .. KEY.event_clock, step.event_count)
  local before = last - step.event_count
  if has_given_positions[prefix] and before > 0 then return last, 0 end
  has_given_positions[prefix] = true
  local first = math.max(before, step.now * 1000)
  last = first + step.event_count
  call('SET', prefix .. KEY.event_clock, string.format('%d', last))
  if before == 0 then
    call('SET', prefix .. KEY.event_birth, string.format('%d', first))
    return last, 0
  end
  if first > before then call('LPUSH', prefix .. KEY.event_skips, string.format('%d:%d', before, first)) end
  return last, first - before
end

-- Returns entries of the outbox from a position on (`-`, `<number>` or `(<number>-<skipped>`), in the format of XRANGE:
-- number of events, time, records, and the bytes of all records up to and including these. Erased entries are kept in a
-- zset, because an entry of a stream cannot be changed.
function outbox_entries(step, from, most)
  local prefix = step.prefix
  local found = call('XRANGE', prefix .. KEY.events, from, '+', 'COUNT', most)
  if call('EXISTS', prefix .. KEY.erased_events) == 0 then return found end
  local last = #found == most and found[most][1]:match('^%d+') or '+inf'
  local first = from == '-' and '-inf' or from:match('^%(?%d+')
  for _, text in ipairs(call('ZRANGEBYSCORE', prefix .. KEY.erased_events, first, last, 'LIMIT', 0, most)) do
    local id, n, t, s, b = text:match('^([^|]*)|([^|]*)|([^|]*)|([^|]*)|(.*)$')
    found[#found + 1] = { id, { 'n', n, 't', t, 'b', b, 's', s } }
  end
  table.sort(found, function(a, b) return tonumber(a[1]:match('^%d+')) < tonumber(b[1]:match('^%d+')) end)
  for index = #found, most + 1, -1 do found[index] = nil end
  return found
end

-- Records that a task was removed: events up to its end are then reported only for tasks that are kept.
function note_removed(step, ended_at)
  local prefix = step.prefix
  if ended_at > tonumber(call('GET', prefix .. KEY.ended_until) or '0') then
    call('SET', prefix .. KEY.ended_until, string.format('%d', ended_at))
  end
end

function finish_step(step)
  local prefix = step.prefix
  write_arrivals(step)
  if step.clock_moved then call('SET', prefix .. KEY.clock, string.format('%d-%d', step.clock_ms, step.clock_n)) end
  local finished = 0
  for field, change in pairs(step.counts) do
    if change ~= 0 then call('HINCRBY', prefix .. KEY.counts, field, change) end
    if is_of_final(field) then finished = finished + change end
  end
  if finished ~= 0 then call('HINCRBY', prefix .. KEY.totals, 'finished', finished) end
  if step.opened ~= 0 then call('HINCRBY', prefix .. KEY.totals, 'open', step.opened) end
  if step.event_count > 0 then
    local body = '[' .. table.concat(step.events, ',') .. ']'
    local bytes = string.format('%d', call('INCRBY', prefix .. KEY.event_bytes, #body))
    local place = string.format('%d-%d', give_positions(step))
    call('XADD', prefix .. KEY.events, place, 'n', step.event_count, 't', step.now_text, 'b', body, 's', bytes)
    if call('EXISTS', prefix .. KEY.readers) == 1 then broadcast(step, 'events') end
  end
  wake_from(step, KEY.waiting, step.wakes)
  wake_from(step, KEY.blocked, step.permits_freed)
  for _, message in ipairs(step.broadcasts) do call('PUBLISH', CHANNEL.news, prefix .. ' ' .. message) end
end

end
