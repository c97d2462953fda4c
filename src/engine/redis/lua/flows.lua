-- Tasks that wait for others; the fifth part of what all steps share.
--
-- A task is told over partitions by its name, `<partition>/<ref>`. One that waits is a text in `dependent`, as in
-- `delayed`, with a place in `dependents`, `<entry>.<lane>`. Its hash `outcomes:<ref>` has a field for each name that
-- it waits for: '' while that is awaited, how it ended as JSON `[status, type, result, error]`, or `null` if it was
-- removed and had not succeeded; in '#' how many are awaited, in '#bytes' how much all have, and in '@<name>' status
-- and type of a large one. Outcomes are copies: retention may remove the one before the other has run. They stay until
-- the task goes, for it may be retried.
--
-- The other way round, `successors:<ref>` holds those that await a task, `<c, r or w> <name>` with what a failure does
-- to them: it cancels them, they run all the same, or they wait for a retry. What ends in a way that does not count
-- goes on being awaited. `awaited` has the ref of each that has such a set, so that nobody else pays for it.
--
-- What concerns a task of another partition is left as a notice, which the sweep has delivered (partition-messages.ts).
--
-- A step tells FOLLOWED_MAX tasks at most, because all other calls wait for it. The rest is noted in `put_off` in the
-- same step, as `<ref>|<when it ended>|<last that was told>`, and told by the next sweeps in order. A task that is to
-- be removed stays until all have been told.
local GONE, FORGOTTEN = 'null', '[null,"",null,null]'

-- What other files use; Lua has room for 200 locals in all of them together.
local names_in, name_of, place_of, notify, because, ref_of_age, leave_dependent, cancel_dependent, release
local depend, await, hear_outcome, remove_finished, be_awaited, join_batch, begin_waiting, predecessors_of
local awaited_by, wait_again
local put_outcome
do

local function imul(a, b)
  a, b = a % 4294967296, b % 4294967296
  local high, low = math.floor(a / 65536), a % 65536
  return bit.tobit(((high * (b % 65536) + low * math.floor(b / 65536)) % 65536) * 65536 + low * (b % 65536))
end

-- The id of a task that is told by its name, see ids.ts.
local function id_of(name)
  local partition, lane, ms, n = name:match('^(%d+)/(%d+)%.(%d+)-(%d+)$')
  partition, lane, ms, n = tonumber(partition), tonumber(lane), tonumber(ms), n - 1e9
  local mixed = bit.bxor(imul(ms, 0x9e3779b1), imul(n + 1, 0x85ebca77), imul(lane + 1, 0xc2b2ae3d))
  mixed = bit.bxor(mixed, bit.rshift(mixed, 15), partition)
  mixed = bit.bxor(imul(mixed, 0x27d4eb2f), math.floor(ms / 4294967296))
  local check = bit.band(bit.bxor(mixed, bit.rshift(mixed, 13)), 0xffffff)
  local hex = function(digits, value)
    local high = math.floor(value / 16777216)
    return (string.format('%06x%06x', high, value - high * 16777216)):sub(-digits)
  end
  local time, number = hex(12, ms), hex(6, n)
  return table.concat({
    time:sub(1, 8), time:sub(9), '7' .. number:sub(1, 3), '8' .. number:sub(4),
    hex(6, lane * 256 + partition) .. hex(6, check),
  }, '-')
end

-- The names that a task waits for, in order, and what a failure does to it; nil when it waits for none.
function names_in(x)
  if x:sub(-1) ~= ']' then return nil end
  local extras = extras_in(x)
  return extras[6], extras[5]:sub(1, 1)
end

function name_of(ref) return PARTITION .. '/' .. ref end

-- Whether it is of this partition, and its ref.
function place_of(name)
  local partition, ref = name:match('^(%d+)/(.*)$')
  return partition == PARTITION, ref
end

-- How the end of a task tells on one that waits for it: it counts, or cancels it, or it goes on being awaited.
local function effect_of(status, policy)
  if status == 'success' or policy == 'r' then return 'counts' end
  return policy == 'c' and 'cancels' or 'waits'
end

local function outcome_of(kind, text)
  local status, e, result = text:match('^(%l+)[^\n]*\n[^\n]*\n[^\n]*\n[^\n]*\n([^\n]*)\n[^\n]*\n([^\n]*)$')
  return string.format('["%s","%s",', status, kind) .. result .. ',' .. e .. ']'
end

-- What of an outcome is told without the rest.
local function outline_of(outcome) return outcome:match('^%["%l+","[^"]*"') .. ']' end

-- Notes how one that a task waits for has ended. What versions before have noted is not counted in '#bytes'.
function put_outcome(key, name, outcome)
  call('HSET', key, name, outcome)
  call('HINCRBY', key, '#bytes', #outcome)
  if #outcome > 1024 then call('HSET', key, '@' .. name, outline_of(outcome)) end
end

-- Tells another partition something: `<its number> <what> <ref there> <other name> <more>`.
function notify(name, what, other, more)
  local partition, ref = name:match('^(%d+)/(.*)$')
  if noticed == 0 then broadcast('due ' .. NOW) end
  noticed = noticed + 1
  call('XADD', P .. KEY.notices, '*', 'n', table.concat({ partition, what, ref, other, more }, ' '))
end

-- Why a task is canceled, as JSON.
function because(name, status)
  if status == 'gone' then
    return '"task ' .. id_of(name) .. ', which it waits for, ended without success and is no longer kept"'
  end
  return '"task ' .. id_of(name) .. ', which it waits for, ended as ' .. status .. '"'
end

-- A ref turned round, so that it sorts by the time of submission; and back.
local function by_age(ref) return (ref:gsub('^(%d+)%.(.*)$', '%2.%1')) end
function ref_of_age(place) return (place:gsub('^(.*)%.(%d+)$', '%2.%1')) end

function leave_dependent(lane, ref)
  call('HDEL', P .. KEY.dependent, ref)
  call('ZREM', P .. KEY.dependents, by_age(ref))
  count(lane.type, 'dependent', -1)
end

function cancel_dependent(ref, error)
  local text = call('HGET', P .. KEY.dependent, ref)
  if not text then return end
  local lane = lane_by_ref(ref)
  local m, x, payload = lines_of(text)
  local head = head_of(m, lane)
  leave_dependent(lane, ref)
  finish(lane, ref, 'canceled', finished_text('canceled', '', head, x, payload, error, 'null', 'null'))
  keep_key(labels_in(x), retention.kept_ms(lane.type, 'canceled'))
  count(lane.type, 'canceled', 1)
  tell('canceled', lane, head, 'null', 'null', error, '')
end

-- All that it waited for has ended: it is ready, or delayed for what is left of that.
function release(ref)
  local text = call('HGET', P .. KEY.dependent, ref)
  if not text then return end
  local lane = lane_by_ref(ref)
  local m, x, payload, e = lines_of(text)
  local head = head_of(m, lane)
  leave_dependent(lane, ref)
  if tonumber(head.run_at) > now then
    delay(lane, ref, head.run_at, join_head(head), x, e, payload)
  else
    head.run_at = NOW
    enqueue(lane, ref, join_head(head), x, e, payload)
  end
end

-- Puts a task aside until what it awaits has ended.
function depend(lane, ref, m, x, e, payload)
  call('HSET', P .. KEY.dependent, ref, table.concat({ m, x, payload, e }, '\n'))
  call('ZADD', P .. KEY.dependents, 0, by_age(ref))
  count(lane.type, 'dependent', 1)
end

-- A task of a name has a copy of the result of one here.
local function note_copy(ref, name) call('SADD', P .. KEY.copies .. ref, name) end

function await(ref, successor)
  call('SADD', P .. KEY.successors .. ref, successor)
  call('HSET', P .. KEY.awaited, ref, '1')
  anything_awaited = true
end

-- One that a task waits for has ended so that it counts, or is gone.
function hear_outcome(ref, name, outcome)
  local key = P .. KEY.outcomes .. ref
  if call('HGET', key, name) ~= '' then return end
  put_outcome(key, name, outcome)
  if outcome == GONE then
    cancel_dependent(ref, because(name, 'gone'))
  elseif call('HINCRBY', key, '#', -1) == 0 then
    release(ref)
  end
end

-- Tells one that awaits a task how that has ended; returns whether it awaits it no longer.
local function tell_successor(successor, name, status, outcome)
  local policy, other = successor:match('^(%l) (.*)$')
  local effect = effect_of(status, policy)
  if effect == 'waits' then return false end
  local is_here, ref = place_of(other)
  if effect == 'counts' then
    local _, its_ref = place_of(name)
    note_copy(its_ref, other)
    if is_here then hear_outcome(ref, name, outcome) else notify(other, 'ended', name, outcome) end
    return true
  end
  if is_here then cancel_dependent(ref, because(name, status)) else notify(other, 'cancel', name, status) end
  return false
end

-- Notes that a task has more to tell than this step may.
function cascade.put_off(ref, ended_at, behind)
  local length = call('LPUSH', P .. KEY.put_off, table.concat({ ref, ended_at, behind }, '|'))
  if length == 1 then broadcast('due ' .. NOW) end
end

-- Those that await a task, by age, as many as this step may still tell; the place of the last one if there are more.
-- @param behind the place of the last one that was told before, or ''
function cascade.some_successors(ref, behind)
  local room = FOLLOWED_MAX - cascade.told
  if room <= 0 then return {}, behind end
  local places, by_place = {}, {}
  for _, successor in ipairs(call('SMEMBERS', P .. KEY.successors .. ref)) do
    -- Lanes have entries of their own, so the ones of a moment are told apart by the rest.
    local place = successor:match('%.(.*)$') .. ' ' .. successor
    if place > behind then
      places[#places + 1] = place
      by_place[place] = successor
    end
  end
  table.sort(places)
  local some = {}
  for index = 1, math.min(room, #places) do some[index] = by_place[places[index]] end
  cascade.told = cascade.told + #some
  return some, #some < #places and places[#some] or nil
end

local function is_awaited(ref)
  if anything_awaited == nil then anything_awaited = call('EXISTS', P .. KEY.awaited) == 1 end
  return anything_awaited and call('HEXISTS', P .. KEY.awaited, ref) == 1
end

local function leave_successors(ref, told)
  if #told > 0 then many('SREM', P .. KEY.successors .. ref, told) end
  if call('EXISTS', P .. KEY.successors .. ref) == 0 then call('HDEL', P .. KEY.awaited, ref) end
end

-- Tells those that wait for a task which has ended, as many as this step may.
function cascade.tell_ended(ref, text, behind)
  local status, ended_at = text:match('^(%l+)|[%l_]*|(%d+)')
  local outcome = outcome_of(lane_by_ref(ref).type, text)
  local some, last = cascade.some_successors(ref, behind)
  local told = {}
  for _, successor in ipairs(some) do
    if tell_successor(successor, name_of(ref), status, outcome) then told[#told + 1] = successor end
  end
  leave_successors(ref, told)
  if last then cascade.put_off(ref, ended_at, last) end
end

-- Goes on with what earlier steps have put off. What was retried since tells when it ends again; what was removed since
-- has told all.
function cascade.follow_on()
  while cascade.told < FOLLOWED_MAX do
    local record = call('RPOP', P .. KEY.put_off)
    if not record then return end
    local ref, ended_at, behind = record:match('^([^|]*)|([^|]*)|(.*)$')
    local found, text = find(ref)
    if found == 'F' and text:match('^%l+|[%l_]*|(%d+)') == ended_at then cascade.tell_ended(ref, text, behind) end
  end
end

-- Tells those that wait for what has ended in this step; some of them end by it, and are told of in their turn.
function follow()
  while followed < #to_follow do
    local ref, text = to_follow[followed + 1], to_follow[followed + 2]
    followed = followed + 2
    if is_awaited(ref) then cascade.tell_ended(ref, text, '') end
  end
end

-- One that a task awaits is no more, and had not succeeded as far as anybody knows.
local function tell_gone(name, gone)
  local is_here, ref = place_of(name)
  if is_here then hear_outcome(ref, gone, GONE) else notify(name, 'gone', gone, '') end
end

-- Tells those that still await a task which is to be removed, as many as this step may; returns whether these were all.
-- Mostly they wait in vain; those that its end had not yet been told are told it now.
function cascade.tell_removed(ref, status, outcome)
  local name = name_of(ref)
  local some, last = cascade.some_successors(ref, '')
  for _, successor in ipairs(some) do
    local policy, other = successor:match('^(%l) (.*)$')
    local effect = effect_of(status, policy)
    local is_here, its_ref = place_of(other)
    if effect == 'counts' then
      if is_here then hear_outcome(its_ref, name, outcome) else notify(other, 'ended', name, outcome) end
    else
      if effect == 'cancels' and is_here then cancel_dependent(its_ref, because(name, status)) end
      tell_gone(other, name)
    end
  end
  leave_successors(ref, some)
  return not last
end

-- A finished task is removed: what it waited for, and its batch, know it no longer.
local function forget_flow(ref, text)
  local x = text:match('^[^\n]*\n([^\n]*)')
  if x:sub(-1) == ']' then call('DEL', P .. KEY.outcomes .. ref) end
  local _, _, batch = labels_in(x)
  if batch and call('HINCRBY', P .. KEY.batches, batch, -1) == 0 then
    call('DEL', P .. KEY.batch .. batch)
    call('HDEL', P .. KEY.batches, batch)
  end
end

-- Removes a finished task whose text is given; returns false if that has to go on in another step, because too many
-- wait for it. Tells of one: `["removed", type, status, ref, attempts]`.
-- @param outcome what those may be told that were not yet told how it ended, if that is not all
function remove_finished(ref, text, outcome)
  local kind, status = lane_by_ref(ref).type, text:match('^%l+')
  if is_awaited(ref) and not cascade.tell_removed(ref, status, outcome or outcome_of(kind, text)) then return false end
  call('DEL', P .. KEY.finished .. ref, P .. KEY.copies .. ref)
  for _, final in ipairs({ 'success', 'failed', 'canceled', 'timeout' }) do
    call('HDEL', P .. KEY.taken_back, ref .. ' ' .. final)
  end
  forget_flow(ref, text)
  count(kind, status, -1)
  local ended_at, attempts = text:match('^%l+|[%l_]*|(%d+)|(%d+)')
  event(1, string.format('["removed","%s","%s","%s",%s]', kind, status, ref, attempts))
  note_removed(tonumber(ended_at))
  return true
end

-- Somebody awaits a task of here: is told how that has ended, or is sure to be told. What was retried after a failure
-- had canceled it waits for another end.
function be_awaited(ref, policy, name, since)
  local found, text = find(ref)
  if not found then return tell_gone(name, name_of(ref)) end
  local successor = policy .. ' ' .. name
  local status, ended_at = text:match('^(%l+)|[%l_]*|(%d+)')
  local is_old = found == 'F' and effect_of(status, policy) == 'cancels' and tonumber(ended_at) <= since
  if found == 'F' and not is_old then
    local outcome = outcome_of(lane_by_ref(ref).type, text)
    if tell_successor(successor, name_of(ref), status, outcome) then
      return leave_successors(ref, { successor })
    end
  end
  await(ref, successor)
end

function join_batch(batch, ref)
  if not batch then return end
  call('RPUSH', P .. KEY.batch .. batch, ref)
  call('HINCRBY', P .. KEY.batches, batch, 1)
end

-- Has a task, which is put aside, wait for others as they stand; returns why it is to be canceled, if it is, and
-- whether there is nothing left to wait for. What is not here any more was once: it counts as forgotten.
function begin_waiting(ref, names, policy)
  local key, successor = P .. KEY.outcomes .. ref, policy .. ' ' .. name_of(ref)
  local awaited, why = 0, nil
  for _, name in ipairs(names) do
    local is_here, other = place_of(name)
    local outcome = ''
    if is_here then
      local found, text = find(other)
      local status = found == 'F' and text:match('^%l+')
      local effect = status and effect_of(status, policy) or 'waits'
      if not found then outcome = FORGOTTEN end
      if effect == 'counts' then
        outcome = outcome_of(lane_by_ref(other).type, text)
        note_copy(other, name_of(ref))
      end
      if effect == 'cancels' then why = why or because(name, status) end
      if outcome == '' then await(other, successor) end
    else
      notify(name, 'await', name_of(ref), policy .. ' 0')
    end
    if outcome == '' then
      awaited = awaited + 1
      call('HSET', key, name, '')
    else
      put_outcome(key, name, outcome)
    end
  end
  call('HSET', key, '#', awaited)
  return why, awaited == 0
end

-- What a task has waited for, as JSON, in order: whole while it fits, and of the others status and type, unread.
function predecessors_of(ref, x)
  local names = names_in(x)
  if not names then return '' end
  local key, outcomes, left = P .. KEY.outcomes .. ref, nil, PREDECESSORS_BYTES_MAX
  local bytes = call('HGET', key, '#bytes')
  if bytes and tonumber(bytes) <= left then
    outcomes = call('HMGET', key, unpack(names))
  else
    outcomes = {}
    for index, name in ipairs(names) do
      local size = call('HSTRLEN', key, name)
      if size <= left then
        left = left - size
        outcomes[index] = call('HGET', key, name)
      else
        outcomes[index] = call('HGET', key, '@' .. name) or outline_of(call('HGET', key, name))
      end
    end
  end
  for index = 1, #names do
    local outcome = outcomes[index]
    if not outcome or outcome == '' or outcome == GONE then outcomes[index] = FORGOTTEN end
  end
  return '[' .. table.concat(outcomes, ',') .. ']'
end

-- Those of the names that a task waits for which it still awaits. Outcomes may be large: none is read.
function awaited_by(ref, names)
  local key, awaited = P .. KEY.outcomes .. ref, {}
  for _, name in ipairs(names) do
    if call('HSTRLEN', key, name) == 0 and call('HEXISTS', key, name) == 1 then awaited[#awaited + 1] = name end
  end
  return awaited
end

-- What a retry makes of a task that waited for others: 'ready' | 'waits', or 'refused' where it would wait in vain.
function wait_again(ref, x)
  local names = names_in(x)
  if not names then return 'ready' end
  local key = P .. KEY.outcomes .. ref
  for _, name in ipairs(names) do
    if call('HSTRLEN', key, name) == #GONE and call('HGET', key, name) == GONE then return 'refused' end
  end
  return #awaited_by(ref, names) > 0 and 'waits' or 'ready'
end

end
