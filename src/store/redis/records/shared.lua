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
-- error of the previous attempt. The text of a finished task also has error, progress and result. A long payload of a
-- task that has started is in `payload:<ref>` (payloads.lua).

-- The functions that the store calls, by name; each file adds one.
local steps = {}

-- `redis.call` does not exist yet when the library is loaded.
local call

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
    -- False if keys are known not to exist; whether there are readers of events, if that is known (rare.lua); in a step
    -- that only reads, which hashes exist (`field_of`).
    may_have_rare = true, has_readers = nil, hashes = nil,
    -- Named limits (limits.lua); nil while no task of the step uses any.
    of_limits = nil, only_reads = false,
    -- How long a finished task may be kept (ms), set by the steps in which tasks end.
    retention_ms = nil,
    -- Written by `finish_step`: changes of counts, events, messages to processes. `opened` is the number of tasks that
    -- became unfinished, less the number of tasks that ended.
    counts = {}, events = {}, event_count = 0, wakes = {}, permits_freed = {}, broadcasts = {}, opened = 0,
    -- Refs of the tasks that became ready again in this step: no process is woken for one that the step starts itself.
    ready_again = nil,
    -- Tasks of groups that begin to wait: their texts, and the entries for the queues of their lanes (groups.lua).
    arrived = {}, arriving = {},
    -- Payloads to be kept apart, and whether that is allowed (payloads.lua).
    payloads_apart = {}, is_alone = nil,
    -- Written by `write_finished`: texts of tasks that ended, and their refs in the order of removal.
    finished_texts = {}, finished_refs = {},
    -- Refs and texts of the tasks that ended, and how many of these values have been processed; the number of
    -- successors informed (cascades.lua), and of messages written (flows.lua).
    to_follow = {}, followed = 0, informed = 0, messages_written = 0,
    -- Of turns (turn.lua, turn-leases.lua); named here because a table that grows costs more.
    process = nil, was_here = nil, grace_ms = nil, type_ttl_ms = nil, types_room = nil, held = nil, ended = nil,
    ended_of = nil, left = nil, left_groups = nil, claimed = nil, succeeded = nil, unkept = nil, busy_changes = nil,
    lanes_at_limit = nil, next_due = nil,
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

-- Returns a field of a hash. A step that reads many tasks asks once whether the hash exists: most of them rarely do.
local function field_of(step, hash, field)
  local hashes, key = step.hashes, step.prefix .. hash
  if hashes then
    if hashes[hash] == nil then hashes[hash] = call('EXISTS', key) == 1 end
    if not hashes[hash] then return false end
  end
  return call('HGET', key, field)
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
