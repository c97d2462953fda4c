-- Runs turns of workers: renews leases, settles outcomes, claims tasks. Several turns in one step.
--
-- KEYS  the partition's prefix
-- ARGV  now, this process, '1' if it has used the store before, grace of a cancel (ms), how long a finished task may be
--       kept (ms), how long a type stays known that is not served (ms); number of types that this process was woken for
--       without finding a task, each; number of turns; each turn: the worker's id, the same as JSON, its description as
--       JSON or '' (nothing new), successful and failed attempts since then, '1' if it leaves, lease in ms; number of
--       renewals, (ref, fence, progress or '') each; number of groups of outcomes, each one of
--         'R', lane's number, prefix of the record that all these leases have if they are unchanged, their deadline or
--           0, how many, (entry, result) each: successes of this worker's leases of tasks that were handed out for the
--           first time
--         'S', ref, fence, result: success of a lease of this worker, decided while no cancel had been requested
--         'O', ref, fence, cancel requested (0|1), '1' to settle only if due, status, attempts, lost, run_at, reason,
--           error, result
--       most tasks to claim, the secret of the new leases, '1' if it waits, the digest of its types if they are very
--       many, or ''; number of types, or 0 if the digest is known, each type, number of groups or 0 for all, each
-- Returns {'types'}, and then nothing has changed: a digest is not known, and the types must be named; or {now, when
--       the next task is due for waiting workers or '', one for each turn: {renewals, outcomes, tasks, refs of its
--       leases to be canceled}}
--       renewal: {expires, cancel requested} or false; outcome: 0 done | 1 the lease was lost | 2 decide again, the
--       task has changed | 3 it cannot be stored, nothing of it is written;
--       tasks: lane's name, head, number of consecutive tasks of that kind, lane's number, (entry, payload) each; for
--       tasks of groups minus the number, (entry, lines of extras, payload and null) each; or, if the head is '', one
--       task with (ref, its own head, payload, extras or '', error or '', the outcomes that it has waited for as JSON
--       or '')
-- Cost  per claim from a lane an XREADGROUP; for all together one HMGET, MSET, XACK, XDEL, ZREM, HDEL, HSET and ZADD
--       per type or lane; a task of a group three commands more

-- Reading -------------------------------------------------------------------------------------------------------------

local read
do

local function read_run()
  local begin_ref, size = arg() .. '.', #outcome_refs
  local run = { prefix = arg(), deadline = number(), entries = {}, results = {}, refs = {} }
  for index = 1, number() do
    local entry = ARGV[at + 1]
    local ref = begin_ref .. entry
    run.entries[index], run.results[index], run.refs[index] = entry, ARGV[at + 2], ref
    outcome_refs[size + index] = ref
    at = at + 2
  end
  return run
end

-- Returns whether a text is a whole number: an invalid one would end the step after part of its writes.
local function is_count(text) return text:match('^%d+$') ~= nil and #text < 16 end
local STATUSES = { pending = true, success = true, failed = true, canceled = true, timeout = true }

local function read_outcome()
  local kind = arg()
  if kind == 'R' then return read_run() end
  local ref, fence = arg(), arg()
  outcome_refs[#outcome_refs + 1] = ref
  if kind == 'S' then return success(ref, fence, arg()) end
  local o = {
    ref = ref, fence = fence, cancel = arg(), due = arg(), status = arg(), attempts = arg(), lost = arg(),
    run_at = arg(), reason = arg(), error = arg(), result = arg(),
  }
  o.is_bad = not (STATUSES[o.status] and is_count(o.attempts) and is_count(o.lost) and is_count(o.run_at))
  return o
end

local function read_turn()
  local turn = {
    worker = arg(), worker_json = arg(), description = arg(), successes = arg(), failures = arg(), leaves = arg(),
    lease_ms = number(), renewals = {}, outcomes = {}, types = {},
  }
  for index = 1, number() do turn.renewals[index] = { ref = arg(), fence = arg(), progress = arg() } end
  for index = 1, number() do turn.outcomes[index] = read_outcome() end
  turn.want, turn.secret, turn.waits, turn.typeset = number(), arg(), arg(), arg()
  for index = 1, number() do turn.types[index] = arg() end
  turn.groups = {}
  for index = 1, number() do turn.groups[index] = arg() end
  return turn
end

function read()
  process, was_here, grace_ms, retention_ms, type_ttl_ms, types_room = arg(), arg(), number(), number(), number(), nil
  woken_without_task, outcome_refs, turns = {}, {}, {}
  for index = 1, number() do woken_without_task[index] = arg() end
  for index = 1, number() do turns[index] = read_turn() end
end

end

-- Workers -------------------------------------------------------------------------------------------------------------

-- Records that the types of a worker are served. An HTTP worker sends no other information about them.
local function know_types(turn)
  local kinds = turn.types
  if #kinds == 0 and turn.typeset ~= '' then kinds = call('SMEMBERS', P .. KEY.typeset .. turn.typeset) end
  local is_whole, served = not has_lost(was_here), {}
  for from = 1, #kinds, CHUNK do
    local to = math.min(from + CHUNK - 1, #kinds)
    for index, rules in ipairs(call('HMGET', P .. KEY.rules, unpack(kinds, from, to))) do
      local kind = kinds[from + index - 1]
      local is_made = is_whole and (rules or make_type(kind))
      if is_made or (not is_whole and call('HLEN', P .. KEY.known) + #served / 2 < TYPES_NAMED_MAX) then
        served[#served + 1], served[#served + 2] = kind, NOW
      end
    end
  end
  many('HSET', P .. KEY.known, served)
end

-- Very many types are named once, and identified by their digest after that. The digest expires if it is not used.
local TYPESET_KEPT_S = 3600
local function all_typesets_known()
  for _, turn in ipairs(turns) do
    local key = P .. KEY.typeset .. turn.typeset
    if turn.typeset ~= '' and #turn.types == 0 and call('EXISTS', key) == 0 then return false end
  end
  for _, turn in ipairs(turns) do
    if turn.typeset ~= '' and (#turn.types > 0 or turn.description ~= '') then
      many('SADD', P .. KEY.typeset .. turn.typeset, turn.types)
      call('EXPIRE', P .. KEY.typeset .. turn.typeset, TYPESET_KEPT_S)
    end
  end
  return true
end

local function touch(turn)
  local worker = turn.worker
  if turn.leaves == '1' then
    if call('HDEL', P .. KEY.workers, worker) == 1 then
      call('ZREM', P .. KEY.seen, worker)
      call('HDEL', P .. KEY.worked, '+' .. worker, '-' .. worker)
      call('SADD', P .. KEY.gone, worker)
    end
  elseif turn.description ~= '' then
    call('HSET', P .. KEY.workers, worker, turn.description)
    call('ZADD', P .. KEY.seen, NOW, worker)
    if turn.successes ~= '0' then call('HINCRBY', P .. KEY.worked, '+' .. worker, turn.successes) end
    if turn.failures ~= '0' then call('HINCRBY', P .. KEY.worked, '-' .. worker, turn.failures) end
    know_types(turn)
  end
end

-- The step ------------------------------------------------------------------------------------------------------------

function steps.turn()
  read()
  if not all_typesets_known() then return { 'types' } end
  heads_of_turn, claimed = {}, {}
  ended, ended_of, left, left_groups, freed, succeeded = {}, {}, {}, {}, {}, {}
  busy_changes, lanes_at_limit, unkept = {}, {}, {}
  read_leases()
  local answers = {}
  for index, turn in ipairs(turns) do
    touch(turn)
    -- Progress is applied first: the last report belongs to the attempt that ends in this same turn.
    local renewals, outcomes = {}, {}
    for place, renewal in ipairs(turn.renewals) do
      renewals[place] = renew(renewal)
      held[renewal.ref] = held[renewal.ref] and call('HGET', P .. KEY.leases, renewal.ref)
    end
    for _, o in ipairs(turn.outcomes) do
      if o.entries then settle_run(o, outcomes) else outcomes[#outcomes + 1] = try_settle(o) end
    end
    add_success_events(turn)
    answers[index] = { renewals, outcomes }
  end
  clear_ended()
  follow()
  local _, due = promote(1000)
  next_due = due
  write_arrivals()
  for index, turn in ipairs(turns) do
    local tasks, rules = claim(turn)
    local cancels = call('SMEMBERS', P .. KEY.cancels .. turn.worker)
    if #cancels > 0 then call('DEL', P .. KEY.cancels .. turn.worker) end
    if turn.waits == '1' and #tasks == 0 and #cancels == 0 then wait(turn, rules) end
    answers[index][3], answers[index][4] = tasks, cancels
  end
  for kind, permits in pairs(freed) do free_permits(kind, permits - (claimed[kind] or 0)) end
  for _, kind in ipairs(woken_without_task) do
    wake(kind, 1)
    free_permits(kind, 1)
  end
  write_busy()
  write_finished()
  finish_step()
  return { NOW, next_due, answers }
end
