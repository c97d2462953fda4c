-- Does all work that is due by time, at most `max` tasks of each kind; one process at a time does it.
--
-- KEYS  the partition's prefix
-- ARGV  now, this process, how long it remains the one that sweeps (ms), '1' if it has used the store before, max, how
--       long a finished task may be kept (ms), how many finished tasks may be kept, most events to keep, for how long
--       (ms), in how many bytes; how long an unseen worker is kept (ms), and a type that no worker serves (ms)
-- Returns {'', ms for which another process remains the one that sweeps} | {'swept', number of tasks changed, 1 if
--       there is more, when to sweep next or '', leases that are due: {ref, lane's name, lease's head} each, now,
--       schedules that are due: {id, text} each, for the caller to decide on, messages to deliver: {id, message} each}
-- Cost  a few commands for each task that is changed, and for each of about fifty types: a sweep checks these in
--       rotation, and the others when something of them is due

local WORKERS_AT_ONCE = 10
local function remove_gone_workers(step, sweep)
  local prefix = step.prefix
  local unseen_since = step.now - sweep.worker_ttl
  for _, worker in ipairs(call('ZRANGEBYSCORE', prefix .. KEY.seen, '-inf', unseen_since, 'LIMIT', 0, sweep.max)) do
    call('HDEL', prefix .. KEY.workers, worker)
    call('ZREM', prefix .. KEY.seen, worker)
    call('SADD', prefix .. KEY.gone, worker)
    call('HDEL', prefix .. KEY.worked, '+' .. worker, '-' .. worker)
    call('DEL', prefix .. KEY.cancels .. worker)
  end
  -- The workers of a round are searched for in all lanes, some lanes per sweep.
  local going = call('SMEMBERS', prefix .. KEY.going)
  if #going == 0 then
    going = call('SRANDMEMBER', prefix .. KEY.gone, WORKERS_AT_ONCE)
    if #going == 0 then return end
    call('SADD', prefix .. KEY.going, unpack(going))
    call('HDEL', prefix .. KEY.rounds, KEY.lanes)
  end
  local names, is_over = next_fields(step, KEY.lanes)
  for index = 1, #names, 2 do
    if names[index]:sub(1, 1) ~= '#' then
      local stream = prefix .. KEY.lane .. names[index]
      for _, worker in ipairs(going) do
        if #call('XPENDING', stream, WORKERS, '-', '+', 1, worker) > 0 then
          call('SADD', prefix .. KEY.holding, worker)
        else
          call('XGROUP', 'DELCONSUMER', stream, WORKERS, worker)
        end
      end
    end
  end
  if not is_over then return end
  for _, worker in ipairs(going) do
    if call('SISMEMBER', prefix .. KEY.holding, worker) == 0 then call('SREM', prefix .. KEY.gone, worker) end
  end
  call('DEL', prefix .. KEY.going, prefix .. KEY.holding)
end

local function due_schedules(step, sweep)
  local prefix = step.prefix
  local ids = call('ZRANGEBYSCORE', prefix .. KEY.ticks, '-inf', step.now_text, 'LIMIT', 0, sweep.max)
  local later = call('ZRANGEBYSCORE', prefix .. KEY.ticks, '(' .. step.now_text, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  soonest(sweep, tonumber(later[2]))
  local due = {}
  for index, text in ipairs(#ids > 0 and call('HMGET', prefix .. KEY.schedules, unpack(ids)) or ids) do
    if text then due[#due + 1] = { ids[index], text } end
  end
  return due
end

-- Checks awaited tasks again at intervals, a bounded number at a time: reports again the changes that a failover has
-- lost, or that an older version of the program did not report.
local RECHECK_EVERY_MS, CHECKS_MAX = 10000, 500
local function recheck_awaited(step, sweep)
  local prefix = step.prefix
  local checked_at, from = (call('GET', prefix .. KEY.awaited_rechecked) or '0 -'):match('^(%d+) (.*)$')
  local places = call('ZRANGEBYLEX', prefix .. KEY.dependents, from, '+', 'LIMIT', 0, CHECKS_MAX)
  if #places == 0 and from == '-' then return end
  local next_check = checked_at + RECHECK_EVERY_MS
  if next_check > step.now then return soonest(sweep, next_check) end
  local checks, last = 0, nil
  for _, place in ipairs(places) do
    local ref = ref_of_age(place)
    local head_text, extras = unpack_task(call('HGET', prefix .. KEY.dependent, ref))
    local names, policy = names_in(extras)
    local since = unpack_head(head_text, lane_by_ref(step, ref)).updated_at
    for _, name in ipairs(awaited_by(step, ref, names)) do
      local is_here, other = place_of(step, name)
      if is_here then
        flows.add_successor(step, other, policy, name_of(step, ref), tonumber(since))
      else
        partition_messages.send(step, name, 'await', name_of(step, ref), policy .. ' ' .. since)
      end
      checks = checks + 1
    end
    last = place
    if checks >= CHECKS_MAX then break end
  end
  local is_over = #places < CHECKS_MAX and last == places[#places]
  call('SET', prefix .. KEY.awaited_rechecked, step.now_text .. ' ' .. (is_over and '-' or '(' .. last))
end

-- Returns whether this process is the one that sweeps; if not, for how long another process is.
local function is_maintainer(step, owner, process, keep_ms)
  local key = step.prefix .. KEY.maintainer
  if not owner then return call('SET', key, process, 'PX', keep_ms) end
  if owner ~= process then return false, call('PTTL', key) end
  return call('PEXPIRE', key, keep_ms)
end

function steps.sweep(step)
  local prefix = step.prefix
  local owner, resting, last_event =
    unpack(call('MGET', prefix .. KEY.maintainer, prefix .. KEY.rest, prefix .. KEY.event_clock))
  local keeps, another_ms = is_maintainer(step, owner, arg(step), arg(step))
  if not keeps then return { '', another_ms } end
  local rests_until = rest.next_at(step, last_event, resting)
  if rests_until then return { 'swept', 0, 0, rests_until, {}, step.now_text, {}, {} } end
  has_lost(step, arg(step))
  local sweep = { changed = 0, more = false, tidies = false, next_at = math.huge }
  sweep.max, step.retention_ms, sweep.retention_count = number(step), number(step), number(step)
  local events_max, events_age, events_bytes = number(step), number(step), number(step)
  sweep.worker_ttl, sweep.type_ttl = number(step), number(step)
  refresh_totals(step)
  local promoted = promote(step, sweep.max)
  add(sweep, promoted, sweep.max)
  write_arrivals(step)
  end_all_waits(step, sweep)
  end_group_waits(step, sweep)
  local leases = {}
  check_types(step, sweep, leases)
  check_limits(step, sweep)
  continue_cascades(step)
  add(sweep, step.informed, FOLLOWED_MAX)
  write_finished(step)
  add(sweep, remove_expired(step, sweep), sweep.max)
  -- The steps below take a task that they do not find for removed.
  write_finished(step)
  tidy_index(step, sweep, KEY.index_tidied, 100, false)
  -- Tasks that were live when their neighbours were deleted are checked again, in a cycle.
  tidy_index(step, sweep, KEY.index_rechecked, 5, true)
  remove_gone_workers(step, sweep)
  recheck_awaited(step, sweep)
  write_finished(step)
  if call('EXISTS', prefix .. KEY.put_off) == 1 then
    sweep.more = true
    soonest(sweep, step.now)
  end
  finish_step(step)
  trim_events(step, events_max)
  trim_old_events(step, events_age, events_bytes)
  soonest(sweep, tonumber(call('ZRANGE', prefix .. KEY.due, 0, 0, 'WITHSCORES')[2]))
  soonest(sweep, tonumber(limits.next_opening(step)))
  local due = due_schedules(step, sweep)
  local next_text = sweep.next_at < math.huge and string.format('%d', sweep.next_at) or ''
  local messages = partition_messages.read(step, sweep.max)
  local is_idle = sweep.changed + #leases + #due + #messages == 0 and not sweep.more and not sweep.tidies
  if is_idle then rest.begin(step, next_text, math.min(sweep.worker_ttl, events_age)) end
  return { 'swept', sweep.changed, sweep.more and 1 or 0, next_text, leases, step.now_text, due, messages }
end
