-- Tasks that wait for others; the second part of what all steps share.
--
-- A task is told over partitions by its name, `<partition>/<ref>`. One that waits is a text in `dependent`, as in
-- `delayed`, with a place in `dependents`, `<entry>.<lane>`. Its hash `outcomes:<ref>` has a field for each name that
-- it waits for: '' while that is awaited, how it ended as JSON `[status, type, result, error]`, or `null` if it was
-- removed and had not succeeded; and in '#' how many are awaited. Outcomes are copies: retention may remove the one
-- before the other has run. They stay until the task goes, for it may be retried.
--
-- The other way round, `successors:<ref>` holds those that await a task, `<c, r or w> <name>` with what a failure does
-- to them: it cancels them, they run all the same, or they wait for a retry. What ends in a way that does not count
-- goes on being awaited. `awaited` has the ref of each that has such a set, so that nobody else pays for it.
--
-- What concerns a task of another partition is left as a notice, which the sweep has delivered (notices.ts).
local GONE, FORGOTTEN = 'null', '[null,"",null,null]'

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
local function names_in(x)
  if x:sub(-1) ~= ']' then return nil end
  local extras = extras_in(x)
  return extras[6], extras[5]:sub(1, 1)
end

local function name_of(ref) return PARTITION .. '/' .. ref end

-- Whether it is of this partition, and its ref.
local function place_of(name)
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

-- Tells another partition something: `<its number> <what> <ref there> <other name> <more>`.
local function notify(name, what, other, more)
  local partition, ref = name:match('^(%d+)/(.*)$')
  if noticed == 0 then broadcast('due ' .. NOW) end
  noticed = noticed + 1
  call('XADD', P .. KEY.notices, '*', 'n', table.concat({ partition, what, ref, other, more }, ' '))
end

-- Why a task is canceled, as JSON.
local function because(name, status)
  if status == 'gone' then
    return '"task ' .. id_of(name) .. ', which it waits for, ended without success and is no longer kept"'
  end
  return '"task ' .. id_of(name) .. ', which it waits for, ended as ' .. status .. '"'
end

-- A ref turned round, so that it sorts by the time of submission; and back.
local function by_age(ref) return (ref:gsub('^(%d+)%.(.*)$', '%2.%1')) end
local function ref_of_age(place) return (place:gsub('^(.*)%.(%d+)$', '%2.%1')) end

local function leave_dependent(lane, ref)
  call('HDEL', P .. KEY.dependent, ref)
  call('ZREM', P .. KEY.dependents, by_age(ref))
  count(lane.type, 'dependent', -1)
end

local function cancel_dependent(ref, error)
  local text = call('HGET', P .. KEY.dependent, ref)
  if not text then return end
  local lane = lane_by_ref(ref)
  local m, x, payload = lines_of(text)
  local head = head_of(m, lane)
  leave_dependent(lane, ref)
  finish(ref, 'canceled', finished_text('canceled', '', head, x, payload, error, 'null', 'null'))
  keep_key(labels_in(x), retention_ms)
  count(lane.type, 'canceled', 1)
  tell('canceled', lane, head, 'null', 'null', error, '')
end

-- All that it waited for has ended: it is ready, or delayed for what is left of that.
local function release(ref)
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
local function depend(lane, ref, m, x, e, payload)
  call('HSET', P .. KEY.dependent, ref, table.concat({ m, x, payload, e }, '\n'))
  call('ZADD', P .. KEY.dependents, 0, by_age(ref))
  count(lane.type, 'dependent', 1)
end

-- A task of a name has a copy of the result of one here.
local function note_copy(ref, name) call('SADD', P .. KEY.copies .. ref, name) end

local function await(ref, successor)
  call('SADD', P .. KEY.successors .. ref, successor)
  call('HSET', P .. KEY.awaited, ref, '1')
  anything_awaited = true
end

-- One that a task waits for has ended so that it counts, or is gone.
local function hear_outcome(ref, name, outcome)
  local key = P .. KEY.outcomes .. ref
  if call('HGET', key, name) ~= '' then return end
  call('HSET', key, name, outcome)
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

-- By age.
local function successors_of(ref)
  local all = call('SMEMBERS', P .. KEY.successors .. ref)
  table.sort(all, function(a, b) return a:match('%.(.*)$') < b:match('%.(.*)$') end)
  return all
end

local function is_awaited(ref)
  if anything_awaited == nil then anything_awaited = call('EXISTS', P .. KEY.awaited) == 1 end
  return anything_awaited and call('HEXISTS', P .. KEY.awaited, ref) == 1
end

local function leave_successors(ref, told)
  if #told > 0 then many('SREM', P .. KEY.successors .. ref, told) end
  if call('EXISTS', P .. KEY.successors .. ref) == 0 then call('HDEL', P .. KEY.awaited, ref) end
end

-- Tells those that wait for what has ended in this step; some of them end by it, and are told of in their turn.
function follow()
  while followed < #to_follow do
    local ref, text = to_follow[followed + 1], to_follow[followed + 2]
    followed = followed + 2
    if is_awaited(ref) then
      local status, outcome = text:match('^%l+'), outcome_of(lane_by_ref(ref).type, text)
      local told = {}
      for _, successor in ipairs(successors_of(ref)) do
        if tell_successor(successor, name_of(ref), status, outcome) then told[#told + 1] = successor end
      end
      leave_successors(ref, told)
    end
  end
end

-- One that a task awaits is no more, and had not succeeded as far as anybody knows.
local function tell_gone(name, gone)
  local is_here, ref = place_of(name)
  if is_here then hear_outcome(ref, gone, GONE) else notify(name, 'gone', gone, '') end
end

-- A finished task is removed: who still awaits it waits in vain. `text` is its own.
local function forget_flow(ref, text)
  local x = text:match('^[^\n]*\n([^\n]*)')
  if x:sub(-1) == ']' then call('DEL', P .. KEY.outcomes .. ref) end
  local _, _, batch = labels_in(x)
  if batch and call('HINCRBY', P .. KEY.batches, batch, -1) == 0 then
    call('DEL', P .. KEY.batch .. batch)
    call('HDEL', P .. KEY.batches, batch)
  end
  if not is_awaited(ref) then return end
  local all = successors_of(ref)
  for _, successor in ipairs(all) do tell_gone(successor:sub(3), name_of(ref)) end
  leave_successors(ref, all)
end

-- Removes a finished task whose text is given. Tells of one: `["removed", type, status, ref, attempts]`.
local function remove_finished(ref, text)
  local kind, status = lane_by_ref(ref).type, text:match('^%l+')
  call('DEL', P .. KEY.finished .. ref, P .. KEY.copies .. ref)
  for _, final in ipairs({ 'success', 'failed', 'canceled', 'timeout' }) do
    call('HDEL', P .. KEY.taken_back, ref .. ' ' .. final)
  end
  forget_flow(ref, text)
  count(kind, status, -1)
  local ended_at, attempts = text:match('^%l+|[%l_]*|(%d+)|(%d+)')
  event(1, string.format('["removed","%s","%s","%s",%s]', kind, status, ref, attempts))
  note_removed(tonumber(ended_at))
end

-- Somebody awaits a task of here: is told how that has ended, or is sure to be told. What was retried after a failure
-- had canceled it waits for another end.
local function be_awaited(ref, policy, name, since)
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

local function join_batch(batch, ref)
  if not batch then return end
  call('RPUSH', P .. KEY.batch .. batch, ref)
  call('HINCRBY', P .. KEY.batches, batch, 1)
end

-- Has a task, which is put aside, wait for others as they stand; returns why it is to be canceled, if it is, and
-- whether there is nothing left to wait for. What is not here any more was once: it counts as forgotten.
local function begin_waiting(ref, names, policy)
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
    if outcome == '' then awaited = awaited + 1 end
    call('HSET', key, name, outcome)
  end
  call('HSET', key, '#', awaited)
  return why, awaited == 0
end

-- What a task has waited for, as JSON, in order.
local function predecessors_of(ref, x)
  local names = names_in(x)
  if not names then return '' end
  local outcomes = call('HMGET', P .. KEY.outcomes .. ref, unpack(names))
  for index = 1, #names do
    local outcome = outcomes[index]
    if not outcome or outcome == '' or outcome == GONE then outcomes[index] = FORGOTTEN end
  end
  return '[' .. table.concat(outcomes, ',') .. ']'
end

-- Those of the names that a task waits for which it still awaits.
local function awaited_by(ref, names)
  local awaited = {}
  for index, outcome in ipairs(call('HMGET', P .. KEY.outcomes .. ref, unpack(names))) do
    if outcome == '' then awaited[#awaited + 1] = names[index] end
  end
  return awaited
end

-- What a retry makes of a task that waited for others: 'ready' | 'waits', or 'refused' where it would wait in vain.
local function wait_again(ref, x)
  local names = names_in(x)
  if not names then return 'ready' end
  local awaited = 0
  for _, outcome in ipairs(call('HMGET', P .. KEY.outcomes .. ref, unpack(names))) do
    if outcome == GONE then return 'refused' end
    if outcome == '' then awaited = awaited + 1 end
  end
  return awaited > 0 and 'waits' or 'ready'
end
