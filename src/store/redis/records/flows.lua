-- Tasks that wait for others; a part of the code that all steps share.
--
-- A task that waits for others is a text in `dependent`, in the same format as in `delayed`, with a member
-- `<entry>.<lane>` in `dependents`; outcomes.lua describes the outcomes that it keeps.
--
-- In the other direction, `successors:<ref>` holds the tasks that wait for a task, `<letter> <name>`, with the letter
-- of their failure policy. A task whose end does not count remains awaited. `awaited` holds the ref of each task that
-- has such a set, so other tasks cost nothing.
--
-- A change that concerns a task of another partition is written as a message, which the sweep delivers
-- (partition-messages.ts).
local flows = {}

-- Returns the error of a canceled task, as JSON.
function flows.cancel_reason(name, status)
  if status == 'gone' then
    return string.format(CANCELED_BECAUSE_GONE, id_of(name))
  end
  return string.format(CANCELED_BECAUSE, id_of(name), status)
end

function flows.leave_dependent(step, lane, ref, extras)
  local prefix = step.prefix
  call('HDEL', prefix .. KEY.dependent, ref)
  call('ZREM', prefix .. KEY.dependents, by_age(ref))
  count(step, lane.type, 'dependent', -1)
  limits.count(step, '~', extras, -1)
end

function flows.cancel_dependent(step, ref, error)
  local text = call('HGET', step.prefix .. KEY.dependent, ref)
  if not text then return end
  local lane = lane_by_ref(step, ref)
  local head_text, extras, payload = unpack_task(text)
  local head = unpack_head(head_text, lane)
  flows.leave_dependent(step, lane, ref, extras)
  end_before_start(step, lane, head, 'canceled', '', extras, payload, error)
end

-- All tasks that it waited for have ended: it becomes ready, or delayed for the rest of its delay.
function flows.release(step, ref)
  local text = call('HGET', step.prefix .. KEY.dependent, ref)
  if not text then return end
  local lane = lane_by_ref(step, ref)
  local head_text, extras, payload, error = unpack_task(text)
  local head = unpack_head(head_text, lane)
  flows.leave_dependent(step, lane, ref, extras)
  if tonumber(head.run_at) > step.now then
    delay(step, lane, ref, head.run_at, pack_head(step, head), extras, payload, error)
  else
    head.run_at = step.now_text
    enqueue(step, lane, ref, pack_head(step, head), extras, payload, error)
  end
end

-- Stores a task until all tasks that it awaits have ended.
function flows.depend(step, lane, ref, head_text, extras, payload, error)
  local prefix = step.prefix
  call('HSET', prefix .. KEY.dependent, ref, pack_task(head_text, extras, payload, error))
  call('ZADD', prefix .. KEY.dependents, 0, by_age(ref))
  count(step, lane.type, 'dependent', 1)
  limits.count(step, '~', extras, 1)
end

-- Records that the named task has a copy of the result of a task of this partition.
function flows.note_copy(step, ref, name) call('SADD', step.prefix .. KEY.copies .. ref, name) end

function flows.await(step, ref, successor)
  local prefix = step.prefix
  call('SADD', prefix .. KEY.successors .. ref, successor)
  call('HSET', prefix .. KEY.awaited, ref, '1')
  step.anything_awaited = true
end

-- A task that `ref` waits for has ended so that it counts, or has been removed.
function flows.receive_outcome(step, ref, name, outcome)
  local key = step.prefix .. KEY.outcomes .. ref
  if call('HGET', key, name) ~= '' then return end
  put_outcome(key, name, outcome)
  if outcome == GONE then
    flows.cancel_dependent(step, ref, flows.cancel_reason(name, 'gone'))
  elseif call('HINCRBY', key, '#', -1) == 0 then
    flows.release(step, ref)
  end
end

-- Passes an outcome to a task of any partition.
function flows.hand_over(step, other, name, outcome)
  local is_here, ref = place_of(step, other)
  if not is_here then return partition_messages.send(step, other, 'ended', name, outcome) end
  flows.receive_outcome(step, ref, name, outcome)
end

-- Informs a task of the end of a task that it awaits; returns whether it no longer awaits it.
function flows.inform_successor(step, successor, name, status, outcome)
  local policy, other = successor:match('^(%l) (.*)$')
  local effect = effect_of(status, policy)
  if effect == 'waits' then return false end
  local is_here, ref = place_of(step, other)
  if effect == 'counts' then
    local _, its_ref = place_of(step, name)
    flows.note_copy(step, its_ref, other)
    flows.hand_over(step, other, name, outcome)
    return true
  end
  if is_here then
    flows.cancel_dependent(step, ref, flows.cancel_reason(name, status))
  else
    partition_messages.send(step, other, 'cancel', name, status)
  end
  return false
end

-- A task that is awaited no longer exists, and is not known to have succeeded.
function flows.inform_of_removal(step, name, gone)
  local is_here, ref = place_of(step, name)
  if not is_here then return partition_messages.send(step, name, 'gone', gone, '') end
  flows.receive_outcome(step, ref, gone, GONE)
end

-- Returns the places of the tasks that await a task, by age, and the entry of each in `successors`.
-- @param behind the place behind which they begin, or ''
function flows.successors_behind(step, ref, behind)
  local places, by_place = {}, {}
  for _, successor in ipairs(call('SMEMBERS', step.prefix .. KEY.successors .. ref)) do
    -- Tasks of different lanes may have equal entries; the rest of the text distinguishes them.
    local place = successor:match('%.(.*)$') .. ' ' .. successor
    if place > behind then
      places[#places + 1] = place
      by_place[place] = successor
    end
  end
  table.sort(places)
  return places, by_place
end

function flows.leave_successors(step, ref, informed)
  local prefix = step.prefix
  if #informed > 0 then many('SREM', prefix .. KEY.successors .. ref, informed) end
  if call('EXISTS', prefix .. KEY.successors .. ref) == 0 then call('HDEL', prefix .. KEY.awaited, ref) end
end

-- A task awaits a task of this partition: it receives the outcome, or is certain to receive it later. A task
-- that was canceled by a failure of the awaited task and then retried waits for another end of that task.
function flows.add_successor(step, ref, policy, name, since)
  local found, text = find(step, ref)
  if not found then return flows.inform_of_removal(step, name, name_of(step, ref)) end
  local successor = policy .. ' ' .. name
  local status, ended_at
  if found == 'finished' then status, ended_at = finished_state(text) end
  local is_old = found == 'finished' and effect_of(status, policy) == 'cancels' and tonumber(ended_at) <= since
  if found == 'finished' and not is_old then
    local outcome = outcome_of(lane_by_ref(step, ref).type, text)
    if flows.inform_successor(step, successor, name_of(step, ref), status, outcome) then
      return flows.leave_successors(step, ref, { successor })
    end
  end
  flows.await(step, ref, successor)
end

function flows.join_batch(step, batch, ref)
  local prefix = step.prefix
  if not batch then return end
  call('RPUSH', prefix .. KEY.batch .. batch, ref)
  call('HINCRBY', prefix .. KEY.batches, batch, 1)
end

-- Makes a stored task wait for others in their present state. Returns the reason to cancel it, if there is one, and
-- whether nothing is left to wait for. A task that no longer exists was accepted once: it counts as forgotten.
function flows.begin_waiting(step, ref, names, policy)
  local key, successor = step.prefix .. KEY.outcomes .. ref, policy .. ' ' .. name_of(step, ref)
  local awaited, why = 0, nil
  for _, name in ipairs(names) do
    local is_here, other = place_of(step, name)
    local outcome = ''
    if is_here then
      local found, text = find(step, other)
      local status = found == 'finished' and final_status(text)
      local effect = status and effect_of(status, policy) or 'waits'
      if not found then outcome = FORGOTTEN end
      if effect == 'counts' then
        outcome = outcome_of(lane_by_ref(step, other).type, text)
        flows.note_copy(step, other, name_of(step, ref))
      end
      if effect == 'cancels' then why = why or flows.cancel_reason(name, status) end
      if outcome == '' then flows.await(step, other, successor) end
    else
      partition_messages.send(step, name, 'await', name_of(step, ref), policy .. ' 0')
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

-- Returns the state after a retry of a task that waited for others: 'ready' | 'waits', or 'refused' if the wait could
-- never end.
function flows.wait_again(step, ref, extras)
  local names = names_in(extras)
  if not names then return 'ready' end
  local key = step.prefix .. KEY.outcomes .. ref
  for _, name in ipairs(names) do
    if call('HSTRLEN', key, name) == #GONE and call('HGET', key, name) == GONE then return 'refused' end
  end
  return #awaited_by(step, ref, names) > 0 and 'waits' or 'ready'
end
