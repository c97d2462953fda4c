-- Accepts tasks. One step handles several calls; each is accepted completely or not at all.
--
-- KEYS  the partition's prefix
-- ARGV  now, '1' from a process that has used the store before, '1' if nothing may be accepted before the partition is
--       restored, 'check' to check only whether the tasks would be accepted, 'tick' for a task of a schedule, or '';
--       least n of the ids, how long a type stays known after its last worker (ms), most waiting tasks or '', how long
--       a finished task may be kept (ms), most tasks that may wait for one, number of shapes, (type, priority, head,
--       extras and uses of tasks that have nothing else but the limits that they use, or '' and '') each; number of
--       calls; each call: number of tasks; each task: its shape's number (1…), its payload; if the
--       number is negative also: its extras, delay in ms or '', run_at or '', idempotency key or '', the request of the
--       key, the units of limits that it uses, as JSON, or '', number of tasks that it waits for, each (`#<index>` for
--       a task of the same call, or a name; '' for a task of another call in a 'check'; '?' for an invalid id); the
--       extras do not contain these and the units. Consecutive calls of one task each that has only a shape and a
--       payload: the negative number of their shape, how many, the payload of each
-- Returns {lane numbers of the shapes, '' if no task of a shape was accepted; the answer of each call}, or 'incomplete'
--       if accepted tasks could take the places of tasks that are to be restored
--       answer: the id of its first entry, or one of
--         {'some', id of its first entry, {index, ref} each}: tasks that were accepted before with a known key
--         {'unknown', type, …}
--         {'lost'}: a type is not known, but the store has lost everything and is incomplete
--         {'conflict', {index, ref or '', the request of the key} each}
--         {'limits', {name, its settings or '', ...}, {index of a task that cannot use its limits} each}
--         {'full', waiting}
--         {'no_predecessor', {index, place} each}
--         {'crowd', name of a task that too many would wait for}
--         {'unstorable', index of a task}: nothing of the call is written
-- Cost  one XADD a task, one INCRBY, one XADD for the events and one for the index of all

-- Returns the refs of tasks that known keys had accepted, by index, and the conflicts: keys that were used for another
-- request.
local function earlier_of(step, tasks)
  local earlier, firsts, conflicts = {}, {}, { 'conflict' }
  local function conflict(index, ref, request) conflicts[#conflicts + 1] = { index, ref, request } end
  for index, task in ipairs(tasks) do
    if task.key and task.key ~= '' then
      local first = firsts[task.key]
      if first then
        if tasks[first].request ~= task.request then conflict(index, '', '') end
        task.same = first
      else
        firsts[task.key] = index
        local stored = call('GET', step.prefix .. KEY.key .. task.key)
        local ref, request
        if stored then ref, request = stored:match('^(%S+) (.*)$') end
        if ref and find(step, ref) then
          if request ~= task.request then conflict(index, ref, request) end
          earlier[index] = ref
        end
      end
    end
  end
  return earlier, conflicts[2] and conflicts
end

-- Checks that the tasks which new tasks wait for exist, and that not too many tasks would wait for one; returns the
-- refusal, if any.
local function refuse_waiting(step, admission, tasks, earlier)
  local missing, crowds = { 'no_predecessor' }, {}
  for index, task in ipairs(tasks) do
    if not earlier[index] and not task.same then
      for place, name in ipairs(task.after or {}) do
        local is_here, ref = place_of(step, name)
        if name == '?' or (is_here and not find(step, ref)) then
          missing[#missing + 1] = { index, place }
        elseif is_here then
          crowds[ref] = (crowds[ref] or call('SCARD', step.prefix .. KEY.successors .. ref)) + 1
          if crowds[ref] > admission.successors_max then return { 'crowd', name } end
        end
      end
    end
  end
  return missing[2] and missing
end

-- Stores a task that waits for others; its state is decided when all tasks of the call are stored.
local function accept_dependent(step, admission, task, lane, ref, run_at, ms, tasks)
  local names = {}
  for place, name in ipairs(task.after) do
    local index = name:match('^#(%d+)$')
    names[place] = index and name_of(step, tasks[tonumber(index)].ref) or name
  end
  task.extras = complete_extras(task.extras, names, task.uses)
  limits.count(step, '#', task.extras, 1)
  local run_at_text, created_at = string.format('%d', run_at), string.format('%d', ms)
  local head_text = pack_new_head(task.shape.head_text, ref, run_at_text, created_at)
  flows.depend(step, lane, ref, head_text, task.extras, task.payload, 'null')
  admission.begun[#admission.begun + 1] = task
end

-- Adds a ready task to its group, or to the lane of its limits.
local function accept_grouped(step, task, lane, group, entry, extras, ms)
  local shape = task.shape
  shape.wait_ms = shape.wait_ms or tonumber(queue_timeout_of(shape.head_text))
  local ends = shape.wait_ms > 0 and ms + shape.wait_ms or nil
  arrive(step, lane, group, entry, pack_task(shape.head_text, extras, task.payload, 'null'), task.ref, ends)
end

local function accept(step, admission, task, lane, ms, n, tasks)
  local entry, labels = entry_id(ms, n), task.shape.labels
  local ref = lane.no .. '.' .. entry
  task.ref = ref
  if not task.extras and labels then
    limits.count_uses(step, '#', labels.uses, 1)
    accept_grouped(step, task, lane, labels.lane, entry, task.shape.extras, ms)
    return true
  end
  if not task.extras then
    add_plain_entry(lane, entry, task.shape.head_text, task.payload)
    note_ready(step, lane, entry)
    return true
  end
  if task.key ~= '' then call('SET', step.prefix .. KEY.key .. task.key, ref .. ' ' .. task.request) end
  local group, batch = task.group, task.batch
  flows.join_batch(step, batch, ref)
  local run_at = math.max(task.run_at or (task.delay and ms + task.delay) or ms, ms)
  if task.uses ~= '' and #task.after == 0 then
    task.extras = complete_extras(task.extras, task.after, task.uses)
    limits.count(step, '#', task.extras, 1)
  end
  if #task.after > 0 then
    accept_dependent(step, admission, task, lane, ref, run_at, ms, tasks)
    return false
  end
  if run_at > ms then
    local run_at_text, created_at = string.format('%d', run_at), string.format('%d', ms)
    local head_text = pack_new_head(task.shape.head_text, ref, run_at_text, created_at)
    delay(step, lane, ref, run_at_text, head_text, task.extras, task.payload, 'null')
    return false
  end
  if group then
    accept_grouped(step, task, lane, group, entry, task.extras, ms)
    return true
  end
  call('XADD', lane.stream, entry, unpack(pack_entry(task.shape.head_text, task.extras, task.payload, 'null')))
  note_ready(step, lane, entry)
  return true
end

-- Counts an accepted task. The ids of a step are consecutive, over all of its calls.
local function add_to_runs(admission, lane, ms, n)
  local run = admission.runs[#admission.runs]
  if not run or run.no ~= lane.no then
    run = { no = lane.no, type = lane.type, count = 0, first = entry_id(ms, n) }
    admission.runs[#admission.runs + 1] = run
  end
  run.count = run.count + 1
end

-- Adds the events of consecutive tasks, `["accepted" or "ticked", type, lane number, id of the first, how many]`, and
-- adds the tasks to the index of all tasks, newest last: the place of the first, and then the numbers of consecutive
-- tasks in each lane.
local function write_runs(step, admission)
  if #admission.runs == 0 then return end
  local parts = {}
  local what = admission.mode == 'tick' and 'ticked' or 'accepted'
  for index, run in ipairs(admission.runs) do
    event(step, run.count, string.format('["%s","%s",%s,"%s",%d]', what, run.type, run.no, run.first, run.count))
    parts[index] = task_index.run_text(run.no, run.count)
  end
  task_index.add_runs(step, admission.runs[1].first, parts)
end

local function lane_of_shape(step, shape)
  if not shape.lane then
    shape.lane = open_lane(step, shape.type, shape.priority)
    watch_waits(step, shape.lane, queue_timeout_of(shape.head_text))
  end
  return shape.lane
end

local function write_call(step, admission, tasks, earlier, fresh)
  local existing, added = nil, 0
  local ms, n = step.now, 0
  if fresh > 0 then ms, n = reserve(step, fresh, admission.least_n) end
  local first = entry_id(ms, n)
  for index, task in ipairs(tasks) do
    local lane = lane_of_shape(step, task.shape)
    local ref = earlier[index] or (task.same and tasks[task.same].ref)
    if ref then
      task.ref = ref
      existing = existing or { 'some', first }
      existing[#existing + 1] = { index, ref }
    else
      add_to_runs(admission, lane, ms, n + added)
      if accept(step, admission, task, lane, ms, n + added, tasks) then wake(step, lane.type, 1) end
      added = added + 1
    end
  end
  step.opened = step.opened + added
  if admission.waiting then admission.waiting = admission.waiting + added end
  return existing or first
end

local function answer_call(step, admission, asked)
  local tasks, unknown = asked.tasks, asked.unknown
  if asked.bad then return { 'unstorable', asked.bad } end
  if unknown then return has_lost(step, admission.was_here) and { 'lost' } or { 'unknown', unpack(unknown) } end
  local earlier, fresh = {}, #tasks
  if asked.keyed then
    local conflicts
    earlier, conflicts = earlier_of(step, tasks)
    if conflicts then return conflicts end
    for place, task in ipairs(tasks) do
      if earlier[place] or task.same then fresh = fresh - 1 end
    end
  end
  local refused_uses = admission.limit_names[1] and admission.mode ~= 'tick' and refuse_uses(admission, tasks, earlier)
  if refused_uses then return refused_uses end
  local waiting = admission.waiting
  if waiting and fresh > 0 and waiting + fresh > admission.pending_max then return { 'full', waiting } end
  local refused = asked.depends and refuse_waiting(step, admission, tasks, earlier)
  if refused then return refused end
  if admission.mode == 'check' then return '' end
  return write_call(step, admission, tasks, earlier, fresh)
end

-- Decides the state of the new tasks that wait for others.
local function begin_all(step, admission)
  for _, task in ipairs(admission.begun) do
    local why, is_ready = flows.begin_waiting(step, task.ref, names_in(task.extras))
    if why then
      flows.cancel_dependent(step, task.ref, why)
    elseif is_ready then
      flows.release(step, task.ref)
    end
  end
  if #admission.begun > 0 then write_finished(step) end
end

function steps.submit(step)
  local admission = read_admission(step)
  rare.check(step, {})
  if admission.must_be_restored and not is_restored(step) then return 'incomplete' end
  read_shapes(step, admission)
  local calls, answers = read_calls(step, admission), {}
  if admission.limit_names[1] then read_limits(step, admission) end
  local is_bounded = admission.pending_max ~= nil
  if is_bounded then refresh_totals(step) end
  -- Tasks that became due in the meantime have waited longer.
  promote(step, 1000)
  if is_bounded then
    admission.waiting = total(step, 'open') + step.opened - call('HLEN', step.prefix .. KEY.leases)
  end
  for index, asked in ipairs(calls) do answers[index] = answer_call(step, admission, asked) end
  write_runs(step, admission)
  begin_all(step, admission)
  finish_step(step)
  local numbers = {}
  for index = 1, admission.shape_count do
    local shape = admission.shapes[index]
    numbers[index] = shape and shape.lane and shape.lane.no or ''
  end
  return { numbers, answers }
end
