-- Tasks that wait for others; the fifth part of the code that all steps share.
--
-- A task has a name that is valid in all partitions, `<partition>/<ref>`. A task that waits for others is a text in
-- `dependent`, in the same format as in `delayed`, with a member `<entry>.<lane>` in `dependents`. Its hash
-- `outcomes:<ref>` has a field for each name that it waits for: '' while that task is awaited, its outcome as JSON
-- `[status, type, result, error]`, or `null` if it was removed without success. '#' holds the number of awaited tasks,
-- '#bytes' the size of all outcomes, and '@<name>' the status and type of a large outcome. Outcomes are copies, so
-- retention may remove the awaited task before the waiting task has run. They are kept until the waiting task is
-- removed, because it may be retried.
--
-- In the other direction, `successors:<ref>` holds the tasks that wait for a task, `<letter> <name>`, with the letter
-- of their failure policy. A task whose end does not count remains awaited. `awaited` holds the ref of each task that
-- has such a set, so other tasks cost nothing.
--
-- A change that concerns a task of another partition is written as a notice, which the sweep delivers
-- (partition-messages.ts).
--
-- A step informs at most FOLLOWED_MAX tasks, because all other calls wait for it. The same step records the rest in
-- `put_off`, as `<ref>|<when it ended>|<last successor that was informed>`, and the next sweeps inform them in order. A
-- task that is to be removed is kept until all have been informed.
local GONE, FORGOTTEN = 'null', '[null,"",null,null]'

-- Functions that other files use; Lua allows 200 locals in all files together.
local names_in, name_of, place_of, notify, cancel_reason, ref_of_age, leave_dependent, cancel_dependent, release
local depend, await, receive_outcome, remove_finished, add_successor, join_batch, begin_waiting, predecessors_of
local awaited_by, wait_again
local put_outcome
do

-- The failure policies (task/flow.ts): the letter of each name, and by letter what each final status does.
local LETTERS, EFFECTS = POLICY_LETTERS, POLICY_EFFECTS

local function imul(a, b)
  a, b = a % 4294967296, b % 4294967296
  local high, low = math.floor(a / 65536), a % 65536
  return bit.tobit(((high * (b % 65536) + low * math.floor(b / 65536)) % 65536) * 65536 + low * (b % 65536))
end

-- Returns the id of a task from its name (ids.ts).
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

-- Returns the names that a task waits for, in order, and the letter of its failure policy; nil if it waits for none.
function names_in(x)
  if x:sub(-1) ~= ']' then return nil end
  local extras = extras_in(x)
  return extras[6], LETTERS[extras[5]] or extras[5]:sub(1, 1)
end

function name_of(ref) return PARTITION .. '/' .. ref end

-- Returns whether a name belongs to this partition, and its ref.
function place_of(name)
  local partition, ref = name:match('^(%d+)/(.*)$')
  return partition == PARTITION, ref
end

-- Returns the effect of a task's end on a task that waits for it: it counts, it cancels the waiting task, or the wait
-- goes on. With the policy of a later version, the task waits.
local function effect_of(status, policy)
  local effects = EFFECTS[policy]
  return effects and effects[status] or 'waits'
end

local function outcome_of(kind, text)
  local status, e, result = text:match('^(%l+)[^\n]*\n[^\n]*\n[^\n]*\n[^\n]*\n([^\n]*)\n[^\n]*\n([^\n]*)$')
  return string.format('["%s","%s",', status, kind) .. result .. ',' .. e .. ']'
end

-- Returns status and type of an outcome.
local function outline_of(outcome) return outcome:match('^%["%l+","[^"]*"') .. ']' end

-- Stores the outcome of a task that another task waits for. Outcomes stored by earlier versions are not counted in
-- '#bytes'.
function put_outcome(key, name, outcome)
  call('HSET', key, name, outcome)
  call('HINCRBY', key, '#bytes', #outcome)
  if #outcome > 1024 then call('HSET', key, '@' .. name, outline_of(outcome)) end
end

-- Writes a notice for another partition: `<its number> <kind> <ref there> <other name> <more>`.
function notify(name, what, other, more)
  local partition, ref = name:match('^(%d+)/(.*)$')
  if notices_written == 0 then broadcast('due ' .. NOW) end
  notices_written = notices_written + 1
  call('XADD', P .. KEY.notices, '*', 'n', table.concat({ partition, what, ref, other, more }, ' '))
end

-- Returns the error of a canceled task, as JSON.
function cancel_reason(name, status)
  if status == 'gone' then
    return string.format(CANCELED_BECAUSE_GONE, id_of(name))
  end
  return string.format(CANCELED_BECAUSE, id_of(name), status)
end

-- Reverses a ref so that it sorts by the time of submission; and back.
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
  add_task_event('canceled', lane, head, 'null', 'null', error, '')
end

-- All tasks that it waited for have ended: it becomes ready, or delayed for the rest of its delay.
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

-- Stores a task until all tasks that it awaits have ended.
function depend(lane, ref, m, x, e, payload)
  call('HSET', P .. KEY.dependent, ref, table.concat({ m, x, payload, e }, '\n'))
  call('ZADD', P .. KEY.dependents, 0, by_age(ref))
  count(lane.type, 'dependent', 1)
end

-- Records that the named task has a copy of the result of a task of this partition.
local function note_copy(ref, name) call('SADD', P .. KEY.copies .. ref, name) end

function await(ref, successor)
  call('SADD', P .. KEY.successors .. ref, successor)
  call('HSET', P .. KEY.awaited, ref, '1')
  anything_awaited = true
end

-- A task that `ref` waits for has ended so that it counts, or has been removed.
function receive_outcome(ref, name, outcome)
  local key = P .. KEY.outcomes .. ref
  if call('HGET', key, name) ~= '' then return end
  put_outcome(key, name, outcome)
  if outcome == GONE then
    cancel_dependent(ref, cancel_reason(name, 'gone'))
  elseif call('HINCRBY', key, '#', -1) == 0 then
    release(ref)
  end
end

-- Informs a task of the end of a task that it awaits; returns whether it no longer awaits it.
local function inform_successor(successor, name, status, outcome)
  local policy, other = successor:match('^(%l) (.*)$')
  local effect = effect_of(status, policy)
  if effect == 'waits' then return false end
  local is_here, ref = place_of(other)
  if effect == 'counts' then
    local _, its_ref = place_of(name)
    note_copy(its_ref, other)
    if is_here then receive_outcome(ref, name, outcome) else notify(other, 'ended', name, outcome) end
    return true
  end
  if is_here then cancel_dependent(ref, cancel_reason(name, status)) else notify(other, 'cancel', name, status) end
  return false
end

-- Records that a task has more successors than this step may inform.
function cascade.defer(ref, ended_at, behind)
  local length = call('LPUSH', P .. KEY.put_off, table.concat({ ref, ended_at, behind }, '|'))
  if length == 1 then broadcast('due ' .. NOW) end
end

-- Returns the tasks that await a task, by age, as many as this step may still inform, and the place of the last one if
-- there are more.
-- @param behind the place of the last one that was informed before, or ''
function cascade.some_successors(ref, behind)
  local room = FOLLOWED_MAX - cascade.informed
  if room <= 0 then return {}, behind end
  local places, by_place = {}, {}
  for _, successor in ipairs(call('SMEMBERS', P .. KEY.successors .. ref)) do
    -- Tasks of different lanes may have equal entries; the rest of the text distinguishes them.
    local place = successor:match('%.(.*)$') .. ' ' .. successor
    if place > behind then
      places[#places + 1] = place
      by_place[place] = successor
    end
  end
  table.sort(places)
  local some = {}
  for index = 1, math.min(room, #places) do some[index] = by_place[places[index]] end
  cascade.informed = cascade.informed + #some
  return some, #some < #places and places[#some] or nil
end

local function is_awaited(ref)
  if anything_awaited == nil then anything_awaited = call('EXISTS', P .. KEY.awaited) == 1 end
  return anything_awaited and call('HEXISTS', P .. KEY.awaited, ref) == 1
end

local function leave_successors(ref, informed)
  if #informed > 0 then many('SREM', P .. KEY.successors .. ref, informed) end
  if call('EXISTS', P .. KEY.successors .. ref) == 0 then call('HDEL', P .. KEY.awaited, ref) end
end

-- Informs the tasks that wait for a task which has ended, as many as this step may.
function cascade.inform_of_end(ref, text, behind)
  local status, ended_at = text:match('^(%l+)|[%l_]*|(%d+)')
  local outcome = outcome_of(lane_by_ref(ref).type, text)
  local some, last = cascade.some_successors(ref, behind)
  local informed = {}
  for _, successor in ipairs(some) do
    if inform_successor(successor, name_of(ref), status, outcome) then informed[#informed + 1] = successor end
  end
  leave_successors(ref, informed)
  if last then cascade.defer(ref, ended_at, last) end
end

-- Continues the cascades that earlier steps deferred. A task that was retried since informs its successors when it ends
-- again; a task that was removed since has informed all.
function cascade.follow_on()
  while cascade.informed < FOLLOWED_MAX do
    local record = call('RPOP', P .. KEY.put_off)
    if not record then return end
    local ref, ended_at, behind = record:match('^([^|]*)|([^|]*)|(.*)$')
    local found, text = find(ref)
    if found == 'F' and text:match('^%l+|[%l_]*|(%d+)') == ended_at then cascade.inform_of_end(ref, text, behind) end
  end
end

-- Informs the tasks that wait for tasks which ended in this step. Some of them end as a result, and their own
-- successors are informed as well.
function follow()
  while followed < #to_follow do
    local ref, text = to_follow[followed + 1], to_follow[followed + 2]
    followed = followed + 2
    if is_awaited(ref) then cascade.inform_of_end(ref, text, '') end
  end
end

-- A task that is awaited no longer exists, and is not known to have succeeded.
local function inform_of_removal(name, gone)
  local is_here, ref = place_of(name)
  if is_here then receive_outcome(ref, gone, GONE) else notify(name, 'gone', gone, '') end
end

-- Informs the tasks that still await a task which is to be removed, as many as this step may; returns whether these
-- were all. Most of them can no longer be satisfied; tasks that had not yet been informed of the outcome receive it
-- now.
function cascade.inform_rest(ref, status, outcome)
  local name = name_of(ref)
  local some, last = cascade.some_successors(ref, '')
  for _, successor in ipairs(some) do
    local policy, other = successor:match('^(%l) (.*)$')
    local effect = effect_of(status, policy)
    local is_here, its_ref = place_of(other)
    if effect == 'counts' then
      if is_here then receive_outcome(its_ref, name, outcome) else notify(other, 'ended', name, outcome) end
    else
      if effect == 'cancels' and is_here then cancel_dependent(its_ref, cancel_reason(name, status)) end
      inform_of_removal(other, name)
    end
  end
  leave_successors(ref, some)
  return not last
end

-- Removes a finished task from its batch and deletes the outcomes that it waited for.
local function remove_flow(ref, text)
  local x = text:match('^[^\n]*\n([^\n]*)')
  if x:sub(-1) == ']' then call('DEL', P .. KEY.outcomes .. ref) end
  local _, _, batch = labels_in(x)
  if batch and call('HINCRBY', P .. KEY.batches, batch, -1) == 0 then
    call('DEL', P .. KEY.batch .. batch)
    call('HDEL', P .. KEY.batches, batch)
  end
end

-- Removes a finished task, given its text. Returns false if another step has to continue, because too many tasks wait
-- for it. Adds one event: `["removed", type, status, ref, attempts]`.
-- @param outcome the outcome for tasks that were not yet informed of it, if it is not the whole outcome
function remove_finished(ref, text, outcome)
  local kind, status = lane_by_ref(ref).type, text:match('^%l+')
  if is_awaited(ref) and not cascade.inform_rest(ref, status, outcome or outcome_of(kind, text)) then return false end
  call('DEL', P .. KEY.finished .. ref, P .. KEY.copies .. ref)
  for _, final in ipairs(FINAL_STATUSES) do
    call('HDEL', P .. KEY.taken_back, ref .. ' ' .. final)
  end
  remove_flow(ref, text)
  count(kind, status, -1)
  local ended_at, attempts = text:match('^%l+|[%l_]*|(%d+)|(%d+)')
  event(1, string.format('["removed","%s","%s","%s",%s]', kind, status, ref, attempts))
  note_removed(tonumber(ended_at))
  return true
end

-- A task awaits a task of this partition: it receives the outcome, or is certain to receive it later. A task
-- that was canceled by a failure of the awaited task and then retried waits for another end of that task.
function add_successor(ref, policy, name, since)
  local found, text = find(ref)
  if not found then return inform_of_removal(name, name_of(ref)) end
  local successor = policy .. ' ' .. name
  local status, ended_at = text:match('^(%l+)|[%l_]*|(%d+)')
  local is_old = found == 'F' and effect_of(status, policy) == 'cancels' and tonumber(ended_at) <= since
  if found == 'F' and not is_old then
    local outcome = outcome_of(lane_by_ref(ref).type, text)
    if inform_successor(successor, name_of(ref), status, outcome) then
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

-- Makes a stored task wait for others in their present state. Returns the reason to cancel it, if there is one, and
-- whether nothing is left to wait for. A task that no longer exists was accepted once: it counts as forgotten.
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
      if effect == 'cancels' then why = why or cancel_reason(name, status) end
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

-- Returns the outcomes that a task has waited for, as JSON, in order: complete while they fit, and only status and type
-- of the others, which are not read.
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

-- Returns the names among those that a task waits for which it still awaits. Outcomes may be large, so none is read.
function awaited_by(ref, names)
  local key, awaited = P .. KEY.outcomes .. ref, {}
  for _, name in ipairs(names) do
    if call('HSTRLEN', key, name) == 0 and call('HEXISTS', key, name) == 1 then awaited[#awaited + 1] = name end
  end
  return awaited
end

-- Returns the state after a retry of a task that waited for others: 'ready' | 'waits', or 'refused' if the wait could
-- never end.
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
