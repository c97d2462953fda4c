-- What follows from the end or the removal of a task that others wait for; a part of the code that all steps share.
--
-- A step informs at most FOLLOWED_MAX tasks, because all other calls wait for it. The same step records the rest in
-- `put_off`, as `<ref>|<when it ended>|<last successor that was informed>`, and the next sweeps inform them in order. A
-- task that is to be removed is kept until all have been informed.
local continue_cascades, remove_finished
do

local function is_anything_awaited(step)
  if step.anything_awaited == nil then
    step.anything_awaited = step.may_have_rare and call('EXISTS', step.prefix .. KEY.awaited) == 1
  end
  return step.anything_awaited
end

local function is_awaited(step, ref)
  return is_anything_awaited(step) and call('HEXISTS', step.prefix .. KEY.awaited, ref) == 1
end

-- Records that a task has more successors than this step may inform.
local function defer_cascade(step, ref, ended_at, behind)
  local length = call('LPUSH', step.prefix .. KEY.put_off, table.concat({ ref, ended_at, behind }, '|'))
  if length == 1 then broadcast(step, 'due ' .. step.now_text) end
end

-- Returns the tasks that await a task, by age, as many as this step may still inform, and the place of the last one if
-- there are more.
-- @param behind the place of the last one that was informed before, or ''
local function some_successors(step, ref, behind)
  local room = FOLLOWED_MAX - step.informed
  if room <= 0 then return {}, behind end
  local places, by_place = flows.successors_behind(step, ref, behind)
  local some = {}
  for index = 1, math.min(room, #places) do some[index] = by_place[places[index]] end
  step.informed = step.informed + #some
  return some, #some < #places and places[#some] or nil
end

-- Informs the tasks that wait for a task which has ended, as many as this step may.
local function inform_of_end(step, ref, text, behind)
  local status, ended_at = finished_state(text)
  local outcome = outcome_of(lane_by_ref(step, ref).type, text)
  local some, last = some_successors(step, ref, behind)
  local name, informed = name_of(step, ref), {}
  for _, successor in ipairs(some) do
    if flows.inform_successor(step, successor, name, status, outcome) then informed[#informed + 1] = successor end
  end
  flows.leave_successors(step, ref, informed)
  if last then defer_cascade(step, ref, ended_at, last) end
end

local function is_same_end(text, ended_at)
  local _, at = finished_state(text)
  return at == ended_at
end

-- Continues the cascades that earlier steps deferred. A task that was retried since informs its successors when it ends
-- again; a task that was removed since has informed all.
function continue_cascades(step)
  while step.informed < FOLLOWED_MAX do
    local record = call('RPOP', step.prefix .. KEY.put_off)
    if not record then return end
    local ref, ended_at, behind = record:match('^([^|]*)|([^|]*)|(.*)$')
    local found, text = find(step, ref)
    local is_same = found == 'finished' and is_same_end(text, ended_at)
    if is_same then inform_of_end(step, ref, text, behind) end
  end
end

-- Informs the tasks that wait for tasks which ended in this step. Some of them end as a result, and their own
-- successors are informed as well.
function follow(step)
  if step.followed < #step.to_follow and not is_anything_awaited(step) then step.followed = #step.to_follow end
  while step.followed < #step.to_follow do
    local ref, text = step.to_follow[step.followed + 1], step.to_follow[step.followed + 2]
    step.followed = step.followed + 2
    if is_awaited(step, ref) then inform_of_end(step, ref, text, '') end
  end
end

-- Informs the tasks that still await a task which is to be removed, as many as this step may; returns whether these
-- were all. Most of them can no longer be satisfied; tasks that had not yet been informed of the outcome receive it
-- now.
local function inform_rest(step, ref, status, outcome)
  local name = name_of(step, ref)
  local some, last = some_successors(step, ref, '')
  for _, successor in ipairs(some) do
    local policy, other = successor:match('^(%l) (.*)$')
    local effect = effect_of(status, policy)
    local is_here, its_ref = place_of(step, other)
    if effect == 'counts' then
      flows.hand_over(step, other, name, outcome)
    else
      if effect == 'cancels' and is_here then
        flows.cancel_dependent(step, its_ref, flows.cancel_reason(name, status))
      end
      flows.inform_of_removal(step, other, name)
    end
  end
  flows.leave_successors(step, ref, some)
  return not last
end

-- Removes a finished task from its batch and deletes the outcomes that it waited for.
local function remove_flow(step, ref, text)
  local prefix = step.prefix
  local extras = extras_of(text)
  if has_predecessors(extras) then call('DEL', prefix .. KEY.outcomes .. ref) end
  local _, _, batch = labels_in(extras)
  if batch and call('HINCRBY', prefix .. KEY.batches, batch, -1) == 0 then
    call('DEL', prefix .. KEY.batch .. batch)
    call('HDEL', prefix .. KEY.batches, batch)
  end
end

-- Removes a finished task, given its text. Returns false if another step has to continue, because too many tasks wait
-- for it. Adds one event: `["removed", type, status, ref, attempts]`.
-- @param outcome the outcome for tasks that were not yet informed of it, if it is not the whole outcome
function remove_finished(step, ref, text, outcome)
  local prefix = step.prefix
  local kind = lane_by_ref(step, ref).type
  local status, ended_at, attempts = finished_state(text)
  if is_awaited(step, ref) then
    if not inform_rest(step, ref, status, outcome or outcome_of(kind, text)) then return false end
  end
  call('DEL', prefix .. KEY.finished .. ref, prefix .. KEY.copies .. ref, prefix .. KEY.attempts .. ref,
    prefix .. KEY.logs .. ref, prefix .. KEY.payload .. ref)
  for _, final in ipairs(FINAL_STATUSES) do
    call('HDEL', prefix .. KEY.taken_back, ref .. ' ' .. final)
  end
  remove_flow(step, ref, text)
  count(step, kind, status, -1)
  event(step, 1, string.format('["removed","%s","%s","%s",%s]', kind, status, ref, attempts))
  outbox.note_removed(step, tonumber(ended_at))
  return true
end

end
