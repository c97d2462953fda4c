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
--           error, result, for how many ms its type is held or '', the outcome of the attempt if it is kept or '', the
--           limit that is held instead of the type or '', the units of limits that it used, as JSON, or ''
--       number of logs, each ref, fence, maximum number of lines that the task keeps, number of lines left out before
--       these, number of lines, the lines
--       most tasks to claim, the secret of the new leases, '1' to register the process if it claims none, the type that
--       it was woken for, if another process is to be woken for tasks that it leaves, or ''; the digest of its types if
--       they are very many, or ''; number of types, or 0 if the digest is known, each type, number of groups or 0 for
--       all, each
-- Returns {'types'}, and then nothing has changed: a digest is not known, and the types must be named; or {now, when
--       the next task is due for waiting workers or '', one for each turn: {renewals, outcomes, tasks, refs of its
--       leases to be canceled}}
--       renewal: {expires, cancel requested} or false; outcome: 0 done | 1 the lease was lost | 2 decide again, the
--       task has changed | 3 it cannot be stored, nothing of it is written;
--       tasks: lane's name, head, number of consecutive tasks of that kind, lane's number, their extras or '', (entry,
--       payload) each; for tasks with extras of their own minus the number, (entry, lines of extras, payload and null)
--       each; or, if the head is '', one
--       task with (ref, its own head, payload, extras or '', error or '', the outcomes that it has waited for as JSON
--       or '')
-- Cost  per claim from a lane an XREADGROUP; for all together one HMGET, MSET, XACK, XDEL, ZREM, HDEL, HSET and ZADD
--       per type or lane; a task of a group three commands more

-- Reading -------------------------------------------------------------------------------------------------------------

local read
do

local function read_run(step, outcome_refs)
  local begin_ref, size = arg(step) .. '.', #outcome_refs
  local entries, results, refs = {}, {}, {}
  local run = { prefix = arg(step), deadline_at = number(step), entries = entries, results = results, refs = refs }
  local tasks, args, at = number(step), step.args, step.at
  for index = 1, tasks do
    local entry = args[at + 1]
    local ref = begin_ref .. entry
    entries[index], results[index], refs[index], outcome_refs[size + index] = entry, args[at + 2], ref, ref
    at = at + 2
  end
  step.at = at
  return run
end

-- Returns whether a text is a whole number: an invalid one would end the step after part of its writes.
local function is_count(text) return text:match('^%d+$') ~= nil and #text < 16 end
local STATUSES = { pending = true, success = true, failed = true, canceled = true, timeout = true }

local function read_outcome(step, outcome_refs)
  local kind = arg(step)
  if kind == 'R' then return read_run(step, outcome_refs) end
  local ref, fence = next_args(step, 2)
  outcome_refs[#outcome_refs + 1] = ref
  if kind == 'S' then return success(ref, fence, arg(step)) end
  local outcome = { ref = ref, fence = fence }
  outcome.cancel_requested, outcome.only_when_due, outcome.status, outcome.attempts, outcome.lost_leases,
    outcome.run_at, outcome.reason, outcome.error, outcome.result, outcome.hold_ms, outcome.attempt,
    outcome.held_limit, outcome.usage = next_args(step, 13)
  local are_counts = is_count(outcome.attempts) and is_count(outcome.lost_leases) and is_count(outcome.run_at)
  outcome.is_bad = not (STATUSES[outcome.status] and are_counts)
  return outcome
end

local function read_log(step)
  local log = { ref = arg(step), fence = arg(step) }
  log.lines_max, log.skipped, log.count, log.body = number(step), number(step), number(step), arg(step)
  return log
end

local function read_turn(step, outcome_refs)
  local turn = { renewals = {}, outcomes = {}, logs = {}, types = {}, groups = {} }
  turn.worker, turn.worker_json, turn.description, turn.successes, turn.failures, turn.leaves = next_args(step, 6)
  turn.lease_ms = number(step)
  for index = 1, number(step) do turn.renewals[index] = { ref = arg(step), fence = arg(step), progress = arg(step) } end
  for index = 1, number(step) do turn.outcomes[index] = read_outcome(step, outcome_refs) end
  for index = 1, number(step) do turn.logs[index] = read_log(step) end
  turn.want = number(step)
  turn.secret, turn.waits, turn.woken_for, turn.typeset = next_args(step, 4)
  for index = 1, number(step) do turn.types[index] = arg(step) end
  for index = 1, number(step) do turn.groups[index] = arg(step) end
  return turn
end

-- Returns the types for which the process was woken without finding a task, the turns, and the refs of all outcomes.
function read(step)
  local woken_for, turns, outcome_refs = {}, {}, {}
  step.process, step.was_here = next_args(step, 2)
  step.grace_ms, step.retention_ms, step.type_ttl_ms = number(step), number(step), number(step)
  for index = 1, number(step) do woken_for[index] = arg(step) end
  for index = 1, number(step) do turns[index] = read_turn(step, outcome_refs) end
  return woken_for, turns, outcome_refs
end

end

-- Workers -------------------------------------------------------------------------------------------------------------

-- Records that the types of a worker are served. An HTTP worker sends no other information about them.
local function know_types(step, turn)
  local prefix = step.prefix
  local kinds = turn.types
  if #kinds == 0 and turn.typeset ~= '' then kinds = call('SMEMBERS', prefix .. KEY.typeset .. turn.typeset) end
  local is_whole, served = not has_lost(step, step.was_here), {}
  for from = 1, #kinds, CHUNK do
    local to = math.min(from + CHUNK - 1, #kinds)
    for index, rules in ipairs(call('HMGET', prefix .. KEY.rules, unpack(kinds, from, to))) do
      local kind = kinds[from + index - 1]
      local is_made = is_whole and (rules or make_type(step, kind))
      if is_made or (not is_whole and call('HLEN', prefix .. KEY.known) + #served / 2 < TYPES_NAMED_MAX) then
        served[#served + 1], served[#served + 2] = kind, step.now_text
      end
    end
  end
  many('HSET', prefix .. KEY.known, served)
end

-- Very many types are named once, and identified by their digest after that. The digest expires if it is not used.
local TYPESET_KEPT_S = 3600
local function all_typesets_known(step, turns)
  local prefix = step.prefix
  for _, turn in ipairs(turns) do
    local key = prefix .. KEY.typeset .. turn.typeset
    if turn.typeset ~= '' and #turn.types == 0 and call('EXISTS', key) == 0 then return false end
  end
  for _, turn in ipairs(turns) do
    if turn.typeset ~= '' and (#turn.types > 0 or turn.description ~= '') then
      many('SADD', prefix .. KEY.typeset .. turn.typeset, turn.types)
      call('EXPIRE', prefix .. KEY.typeset .. turn.typeset, TYPESET_KEPT_S)
    end
  end
  return true
end

local function touch(step, turn)
  local prefix = step.prefix
  local worker = turn.worker
  if turn.leaves == '1' then
    if call('HDEL', prefix .. KEY.workers, worker) == 1 then
      call('ZREM', prefix .. KEY.seen, worker)
      call('HDEL', prefix .. KEY.worked, '+' .. worker, '-' .. worker)
      call('SADD', prefix .. KEY.gone, worker)
      call('DEL', prefix .. KEY.cancels .. worker)
    end
  elseif turn.description ~= '' then
    call('HSET', prefix .. KEY.workers, worker, turn.description)
    call('ZADD', prefix .. KEY.seen, step.now_text, worker)
    if turn.successes ~= '0' then call('HINCRBY', prefix .. KEY.worked, '+' .. worker, turn.successes) end
    if turn.failures ~= '0' then call('HINCRBY', prefix .. KEY.worked, '-' .. worker, turn.failures) end
    know_types(step, turn)
  end
end

-- The step ------------------------------------------------------------------------------------------------------------

function steps.turn(step)
  local prefix = step.prefix
  local woken_for, turns, outcome_refs = read(step)
  if not all_typesets_known(step, turns) then return { 'types' } end
  local keys = {}
  for index, turn in ipairs(turns) do keys[index] = prefix .. KEY.cancels .. turn.worker end
  rare.check(step, keys)
  begin_turns(step, outcome_refs)
  local answers = {}
  for index, turn in ipairs(turns) do
    touch(step, turn)
    -- Progress is applied first: the last report belongs to the attempt that ends in this same turn.
    local renewals, outcomes = {}, {}
    for place, renewal in ipairs(turn.renewals) do
      renewals[place] = renew(step, renewal)
      step.held[renewal.ref] = step.held[renewal.ref] and call('HGET', prefix .. KEY.leases, renewal.ref)
    end
    for _, log in ipairs(turn.logs) do
      local record = call('HGET', prefix .. KEY.leases, log.ref)
      local lease = record and unpack_lease(record)
      if lease and lease.fence == log.fence then logs.add(step, log, lease) end
    end
    for _, outcome in ipairs(turn.outcomes) do
      if outcome.entries then
        settle_run(step, outcome, outcomes)
      else
        outcomes[#outcomes + 1] = try_settle(step, outcome)
      end
    end
    add_success_events(step, turn)
    answers[index] = { renewals, outcomes }
  end
  clear_ended(step)
  follow(step)
  local _, due = promote(step, 1000)
  step.next_due = due
  write_arrivals(step)
  limits.reopen(step)
  for index, turn in ipairs(turns) do
    local tasks, rules = claim(step, turn)
    local cancels = step.may_have_rare and call('SMEMBERS', keys[index]) or {}
    if #cancels > 0 then call('DEL', keys[index]) end
    if turn.waits == '1' and #tasks == 0 and #cancels == 0 then waits.register(step, turn, rules) end
    if turn.woken_for ~= '' and turn.started >= turn.want then waits.pass_on(step, turn.woken_for) end
    answers[index][3], answers[index][4] = tasks, cancels
  end
  for kind, refs in pairs(step.ended_of) do free_permits(step, kind, #refs - (step.claimed[kind] or 0)) end
  for _, kind in ipairs(woken_for) do waits.pass_on(step, kind) end
  write_busy(step)
  write_finished(step)
  finish_step(step)
  return { step.now_text, step.next_due, answers }
end
