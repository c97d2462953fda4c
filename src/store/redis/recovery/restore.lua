-- Restores tasks from another log, with their ids, each once.
--
-- KEYS  the partition's prefix
-- ARGV  now, how long a finished task may be kept (ms), number of tasks, each: ref, type, priority, head as an entry
--       has it, extras, payload, previous error, the request of its idempotency key, run_at, when it ended or '' if it
--       has not; for a finished task also: status, first line, error, progress and result
-- Returns per task 'restored' | 'known' | 'foreign' (its ref names the lane of another type or priority)
-- Cost  the same as accepting it, and a look-up
local highest, last_place, place_of_runs, runs_of_place

local function read_task()
  local t = {
    ref = arg(), type = arg(), priority = arg(), m = arg(), x = arg(), payload = arg(), e = arg(), request = arg(),
    run_at = number(), ended_at = arg(),
  }
  if t.ended_at ~= '' then
    t.status, t.first, t.error, t.progress, t.result = arg(), arg(), arg(), arg(), arg()
  end
  return t
end

-- Returns the lane that a ref names, created if no lane has that number; nil if the number belongs to another lane.
local function own_lane(t)
  local no = t.ref:match('^%d+')
  local name = t.type .. ':' .. t.priority
  local there, its_no = call('HGET', P .. KEY.lanes, '#' .. no), call('HGET', P .. KEY.lanes, name)
  if (there and there ~= name) or (its_no and its_no ~= no) then return nil end
  return open_lane(t.type, t.priority, no)
end

local function keep_request(t, key, kind, ended_for)
  if not key or call('EXISTS', P .. KEY.key .. key) == 1 then return end
  call('SET', P .. KEY.key .. key, t.ref .. ' ' .. t.request)
  if ended_for then keep_key(key, retention.kept_ms(kind, t.status, ended_for)) end
end

local function restore_finished(t, lane, key)
  local text = table.concat({ t.first, t.x, t.payload, 'null', t.error, t.progress, t.result }, '\n')
  call('SET', P .. KEY.finished .. t.ref, text)
  retention.add_done(t.status, tonumber(t.ended_at), t.ref, retention.own_ms(lane.type, t.status))
  count(lane.type, t.status, 1)
  keep_request(t, key, lane.type, now - t.ended_at)
end

-- Restores the task at the entry that it was accepted as, if the stream has no later entry yet; else at the end of its
-- lane.
local function restore_waiting(t, lane, key, group)
  keep_request(t, key)
  watch_waits(lane, t.m:match('^%d+'))
  local entry = t.ref:match('%.(.*)$')
  local names, policy = names_in(t.x)
  if names then
    depend(lane, t.ref, t.m, t.x, t.e, t.payload)
    -- The task was not canceled, so it waits for a retry of the tasks that failed.
    local _, is_ready = begin_waiting(t.ref, names, policy)
    if is_ready then release(t.ref) end
    return
  end
  if t.run_at > now then
    delay(lane, t.ref, string.format('%d', t.run_at), t.m, t.x, t.e, t.payload)
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
    note_ready(lane, entry)
    wake(lane.type, 1)
  else
    enqueue(lane, t.ref, t.m, t.x, t.e, t.payload)
  end
end

-- The index of all tasks grows only at its end: tasks that follow its last place get their own places, all others get a
-- present one.
local function add_to_index(ref)
  local no, ms, n = ref:match('^(%d+)%.(%d+)-(%d+)$')
  local place = ms .. '-' .. n
  local run = runs_of_place[#runs_of_place]
  if run and run.ms == ms and run.next_n == tonumber(n) then
    if run.no == no then
      run.count = run.count + 1
    else
      run.text, run.no, run.count = run.text .. run.no .. '*' .. run.count .. ' ', no, 1
    end
    run.next_n = run.next_n + 1
    last_place = place
  elseif place > last_place then
    runs_of_place[#runs_of_place + 1] = { place = place, ms = ms, next_n = n + 1, no = no, count = 1, text = '' }
    last_place = place
  else
    place_of_runs[#place_of_runs + 1] = ref
  end
end

local function write_index()
  for _, run in ipairs(runs_of_place) do
    call('XADD', P .. KEY.index, run.place, 'l', run.text .. run.no .. '*' .. run.count)
  end
  for _, ref in ipairs(place_of_runs) do
    call('XADD', P .. KEY.index, entry_id(reserve(1)), 'r', ref)
  end
end

function steps.restore()
  retention_ms = number()
  highest, place_of_runs, runs_of_place = '', {}, {}
  local newest = call('XREVRANGE', P .. KEY.index, '+', '-', 'COUNT', 1)[1]
  last_place = ''
  if newest then
    local ms, n = newest[1]:match('^(%d+)-(%d+)$')
    local tasks = 0
    if newest[2][1] == 'l' then
      for each in newest[2][2]:gmatch('%*(%d+)') do tasks = tasks + each end
    end
    last_place = entry_id(ms, n + math.max(tasks - 1, 0))
  end
  local answers, restored = {}, {}
  for index = 1, number() do
    local t = read_task()
    local lane = own_lane(t)
    if not lane then
      answers[index] = 'foreign'
    elseif find(t.ref) then
      answers[index] = 'known'
    else
      restored[#restored + 1] = { t, lane }
      answers[index] = 'restored'
      -- New entries must sort after the restored ones.
      local entry = t.ref:match('%.(.*)$')
      if entry > highest then highest = entry end
    end
  end
  local clock = call('GET', P .. KEY.clock) or ''
  if highest > clock then call('SET', P .. KEY.clock, highest) end
  for _, pair in ipairs(restored) do
    local t, lane = pair[1], pair[2]
    -- A task may be in one call twice.
    if not find(t.ref) then
      local key, group, batch = labels_in(t.x)
      join_batch(batch, t.ref)
      if t.ended_at ~= '' then
        restore_finished(t, lane, key)
      else
        opened = opened + 1
        restore_waiting(t, lane, key, group)
      end
      add_to_index(t.ref)
    end
  end
  write_index()
  finish_step()
  return answers
end
