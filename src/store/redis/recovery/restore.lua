-- Restores tasks from another log, with their ids, each once.
--
-- KEYS  the partition's prefix
-- ARGV  now, how long a finished task may be kept (ms), number of tasks, each: ref, type, priority, head as an entry
--       has it, extras, payload, previous error, the request of its idempotency key, run_at, number of attempts that
--       did not end it and of those no longer kept, the JSON of each, when it ended or '' if it has not; for a finished
--       task also: status, first line, error, progress and result
-- Returns per task 'restored' | 'known' | 'foreign' (its ref names the lane of another type or priority)
-- Cost  the same as accepting it, and a look-up

local function read_task(step)
  local task = {}
  task.ref, task.type, task.priority, task.head_text, task.extras, task.payload, task.error, task.request =
    next_args(step, 8)
  task.run_at, task.attempts = number(step), {}
  local attempts_kept = number(step)
  task.attempts_left_out = number(step)
  for index = 1, attempts_kept do task.attempts[index] = arg(step) end
  task.ended_at = arg(step)
  if task.ended_at ~= '' then task.status, task.first, task.error, task.progress, task.result = next_args(step, 5) end
  return task
end

-- Returns the lane that a ref names, created if no lane has that number; nil if the number belongs to another lane.
local function own_lane(step, task)
  local prefix = step.prefix
  local no = task.ref:match('^%d+')
  local name = task.type .. ':' .. task.priority
  local there, its_no = call('HGET', prefix .. KEY.lanes, '#' .. no), call('HGET', prefix .. KEY.lanes, name)
  if (there and there ~= name) or (its_no and its_no ~= no) then return nil end
  return open_lane(step, task.type, task.priority, no)
end

local function keep_request(step, task, key, kind, ended_for)
  local prefix = step.prefix
  if not key or call('EXISTS', prefix .. KEY.key .. key) == 1 then return end
  call('SET', prefix .. KEY.key .. key, task.ref .. ' ' .. task.request)
  if ended_for then keep_key(step, key, retention.kept_ms(step, kind, task.status, ended_for)) end
end

local function restore_finished(step, task, lane, key)
  local lines = { task.first, task.extras, task.payload, 'null', task.error, task.progress, task.result }
  call('SET', step.prefix .. KEY.finished .. task.ref, table.concat(lines, '\n'))
  done.add(step, task.status, tonumber(task.ended_at), task.ref, retention.own_ms(step, lane.type, task.status))
  count(step, lane.type, task.status, 1)
  keep_request(step, task, key, lane.type, step.now - task.ended_at)
end

-- Restores the task at the entry that it was accepted as, if the stream has no later entry yet; else at the end of its
-- lane.
local function restore_waiting(step, task, lane, key, group)
  keep_request(step, task, key)
  watch_waits(step, lane, queue_timeout_of(task.head_text))
  local entry = task.ref:match('%.(.*)$')
  local names, policy = names_in(task.extras)
  if names then
    flows.depend(step, lane, task.ref, task.head_text, task.extras, task.payload, task.error)
    -- The task was not canceled, so it waits for a retry of the tasks that failed.
    local _, is_ready = flows.begin_waiting(step, task.ref, names, policy)
    if is_ready then flows.release(step, task.ref) end
    return
  end
  if task.run_at > step.now then
    local run_at = string.format('%d', task.run_at)
    delay(step, lane, task.ref, run_at, task.head_text, task.extras, task.payload, task.error)
    return
  end
  local last = call('XINFO', 'STREAM', lane.stream)[8]
  local is_plain = not group and is_as_accepted(task.head_text, task.ref, entry)
  if is_plain and (#last < 24 or last < entry) then
    local fields = pack_entry(request_of(task.head_text), task.extras, task.payload, 'null')
    call('XADD', lane.stream, entry, unpack(fields))
    note_ready(step, lane, entry)
    wake(step, lane.type, 1)
  else
    enqueue(step, lane, task.ref, task.head_text, task.extras, task.payload, task.error)
  end
end

-- Returns the last place of the index, and nothing added to it yet.
local function begin_index(step)
  local additions = { last_place = '', runs = {}, refs = {} }
  local newest = call('XREVRANGE', step.prefix .. KEY.index, '+', '-', 'COUNT', 1)[1]
  if newest then
    local place = task_index.unpack(newest)
    additions.last_place = entry_id(place.ms, place.n + math.max(place.tasks - 1, 0))
  end
  return additions
end

-- The index of all tasks grows only at its end: tasks that follow its last place get their own places, all others get a
-- present one.
local function add_to_index(additions, ref)
  local no, ms, n = ref:match('^(%d+)%.(%d+)-(%d+)$')
  local place = ms .. '-' .. n
  local run = additions.runs[#additions.runs]
  if run and run.ms == ms and run.next_n == tonumber(n) then
    if run.no == no then
      run.count = run.count + 1
    else
      run.texts[#run.texts + 1] = task_index.run_text(run.no, run.count)
      run.no, run.count = no, 1
    end
    run.next_n = run.next_n + 1
    additions.last_place = place
  elseif place > additions.last_place then
    additions.runs[#additions.runs + 1] = { place = place, ms = ms, next_n = n + 1, no = no, count = 1, texts = {} }
    additions.last_place = place
  else
    additions.refs[#additions.refs + 1] = ref
  end
end

local function write_index(step, additions)
  for _, run in ipairs(additions.runs) do
    run.texts[#run.texts + 1] = task_index.run_text(run.no, run.count)
    task_index.add_runs(step, run.place, run.texts)
  end
  for _, ref in ipairs(additions.refs) do task_index.add_ref(step, entry_id(reserve(step, 1)), ref) end
end

function steps.restore(step)
  local prefix = step.prefix
  step.retention_ms = number(step)
  local additions = begin_index(step)
  local answers, restored, highest = {}, {}, ''
  for index = 1, number(step) do
    local task = read_task(step)
    local lane = own_lane(step, task)
    if not lane then
      answers[index] = 'foreign'
    elseif find(step, task.ref) then
      answers[index] = 'known'
    else
      restored[#restored + 1] = { task = task, lane = lane }
      answers[index] = 'restored'
      -- New entries must sort after the restored ones.
      local entry = task.ref:match('%.(.*)$')
      if entry > highest then highest = entry end
    end
  end
  local clock = call('GET', prefix .. KEY.clock) or ''
  if highest > clock then call('SET', prefix .. KEY.clock, highest) end
  for _, one in ipairs(restored) do
    local task, lane = one.task, one.lane
    -- A task may be in one call twice.
    if not find(step, task.ref) then
      local key, group, batch = labels_in(task.extras)
      flows.join_batch(step, batch, task.ref)
      attempts.restore(step, task.ref, task.attempts_left_out, task.attempts)
      if task.ended_at ~= '' then
        restore_finished(step, task, lane, key)
      else
        step.opened = step.opened + 1
        limits.count(step, '#', task.extras, 1)
        restore_waiting(step, task, lane, key, group)
      end
      add_to_index(additions, task.ref)
    end
  end
  write_index(step, additions)
  finish_step(step)
  return answers
end
