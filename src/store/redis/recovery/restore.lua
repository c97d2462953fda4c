-- Restores tasks from another log, with their ids, each once.
--
-- KEYS  the partition's prefix
-- ARGV  now, how long a finished task may be kept (ms), number of tasks, each: ref, type, priority, head as an entry
--       has it, extras, payload, previous error, the request of its idempotency key, run_at, when it ended or '' if it
--       has not; for a finished task also: status, first line, error, progress and result
-- Returns per task 'restored' | 'known' | 'foreign' (its ref names the lane of another type or priority)
-- Cost  the same as accepting it, and a look-up

local function read_task(step)
  local t = {}
  t.ref, t.type, t.priority, t.m, t.x, t.payload, t.e, t.request = next_args(step, 8)
  t.run_at, t.ended_at = number(step), arg(step)
  if t.ended_at ~= '' then t.status, t.first, t.error, t.progress, t.result = next_args(step, 5) end
  return t
end

-- Returns the lane that a ref names, created if no lane has that number; nil if the number belongs to another lane.
local function own_lane(step, t)
  local prefix = step.prefix
  local no = t.ref:match('^%d+')
  local name = t.type .. ':' .. t.priority
  local there, its_no = call('HGET', prefix .. KEY.lanes, '#' .. no), call('HGET', prefix .. KEY.lanes, name)
  if (there and there ~= name) or (its_no and its_no ~= no) then return nil end
  return open_lane(step, t.type, t.priority, no)
end

local function keep_request(step, t, key, kind, ended_for)
  local prefix = step.prefix
  if not key or call('EXISTS', prefix .. KEY.key .. key) == 1 then return end
  call('SET', prefix .. KEY.key .. key, t.ref .. ' ' .. t.request)
  if ended_for then keep_key(step, key, retention.kept_ms(step, kind, t.status, ended_for)) end
end

local function restore_finished(step, t, lane, key)
  local text = table.concat({ t.first, t.x, t.payload, 'null', t.error, t.progress, t.result }, '\n')
  call('SET', step.prefix .. KEY.finished .. t.ref, text)
  retention.add_done(step, t.status, tonumber(t.ended_at), t.ref, retention.own_ms(step, lane.type, t.status))
  count(step, lane.type, t.status, 1)
  keep_request(step, t, key, lane.type, step.now - t.ended_at)
end

-- Restores the task at the entry that it was accepted as, if the stream has no later entry yet; else at the end of its
-- lane.
local function restore_waiting(step, t, lane, key, group)
  keep_request(step, t, key)
  watch_waits(step, lane, t.m:match('^%d+'))
  local entry = t.ref:match('%.(.*)$')
  local names, policy = names_in(t.x)
  if names then
    depend(step, lane, t.ref, t.m, t.x, t.e, t.payload)
    -- The task was not canceled, so it waits for a retry of the tasks that failed.
    local _, is_ready = begin_waiting(step, t.ref, names, policy)
    if is_ready then release(step, t.ref) end
    return
  end
  if t.run_at > step.now then
    delay(step, lane, t.ref, string.format('%d', t.run_at), t.m, t.x, t.e, t.payload)
    return
  end
  local last = call('XINFO', 'STREAM', lane.stream)[8]
  local plain = t.m:match('^%d+,%d+,%d+') .. ',' .. t.ref .. ',0,0,0,' .. entry:sub(1, 13) .. ',0,'
  if not group and t.m:find(plain, 1, true) == 1 and (#last < 24 or last < entry) then
    local fields = { 'm', t.m:match('^%d+,%d+,%d+'), 'p', t.payload }
    if t.x ~= NO_EXTRAS then
      fields[5], fields[6] = 'x', t.x
    end
    call('XADD', lane.stream, entry, unpack(fields))
    note_ready(step, lane, entry)
    wake(step, lane.type, 1)
  else
    enqueue(step, lane, t.ref, t.m, t.x, t.e, t.payload)
  end
end

-- Returns the last place of the index, and nothing added to it yet.
local function begin_index(step)
  local additions = { last_place = '', runs = {}, refs = {} }
  local newest = call('XREVRANGE', step.prefix .. KEY.index, '+', '-', 'COUNT', 1)[1]
  if newest then
    local ms, n = newest[1]:match('^(%d+)-(%d+)$')
    local tasks = 0
    if newest[2][1] == 'l' then
      for each in newest[2][2]:gmatch('%*(%d+)') do tasks = tasks + each end
    end
    additions.last_place = entry_id(ms, n + math.max(tasks - 1, 0))
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
      run.text, run.no, run.count = run.text .. run.no .. '*' .. run.count .. ' ', no, 1
    end
    run.next_n = run.next_n + 1
    additions.last_place = place
  elseif place > additions.last_place then
    additions.runs[#additions.runs + 1] = { place = place, ms = ms, next_n = n + 1, no = no, count = 1, text = '' }
    additions.last_place = place
  else
    additions.refs[#additions.refs + 1] = ref
  end
end

local function write_index(step, additions)
  local prefix = step.prefix
  for _, run in ipairs(additions.runs) do
    call('XADD', prefix .. KEY.index, run.place, 'l', run.text .. run.no .. '*' .. run.count)
  end
  for _, ref in ipairs(additions.refs) do
    call('XADD', prefix .. KEY.index, entry_id(reserve(step, 1)), 'r', ref)
  end
end

function steps.restore(step)
  local prefix = step.prefix
  step.retention_ms = number(step)
  local additions = begin_index(step)
  local answers, restored, highest = {}, {}, ''
  for index = 1, number(step) do
    local t = read_task(step)
    local lane = own_lane(step, t)
    if not lane then
      answers[index] = 'foreign'
    elseif find(step, t.ref) then
      answers[index] = 'known'
    else
      restored[#restored + 1] = { t, lane }
      answers[index] = 'restored'
      -- New entries must sort after the restored ones.
      local entry = t.ref:match('%.(.*)$')
      if entry > highest then highest = entry end
    end
  end
  local clock = call('GET', prefix .. KEY.clock) or ''
  if highest > clock then call('SET', prefix .. KEY.clock, highest) end
  for _, pair in ipairs(restored) do
    local t, lane = pair[1], pair[2]
    -- A task may be in one call twice.
    if not find(step, t.ref) then
      local key, group, batch = labels_in(t.x)
      join_batch(step, batch, t.ref)
      if t.ended_at ~= '' then
        restore_finished(step, t, lane, key)
      else
        step.opened = step.opened + 1
        restore_waiting(step, t, lane, key, group)
      end
      add_to_index(additions, t.ref)
    end
  end
  write_index(step, additions)
  finish_step(step)
  return answers
end
