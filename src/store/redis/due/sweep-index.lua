-- Deletes the places of removed tasks from the index of all tasks; a part of sweep.lua.

-- Returns whether a task of the runs of a place, {lane number, first n, how many} each, is in the stream of its lane.
local RUNS_FIRST = 10
local function any_in_stream(step, ms, runs)
  for _, run in ipairs(runs) do
    local lane = lane_by_ref(step, run[1] .. '.0')
    local first, last = entry_id(ms, run[2]), entry_id(ms, run[2] + run[3] - 1)
    if #call('XRANGE', lane.stream, first, last, 'COUNT', 1) > 0 then return true end
  end
  return false
end

-- Returns the state of the tasks of a place in the index: all gone, at least one finished task kept, or at least one
-- still live; and the number of tasks checked.
local function state_of(step, place)
  local prefix = step.prefix
  if place[2][1] == 'r' then
    local found = find(step, place[2][2])
    return found == 'F' and 'kept' or found and 'live' or 'gone', 1
  end
  local ms, n = place[1]:match('^(%d+)-(%d+)$')
  n = tonumber(n)
  local refs, keys, runs = {}, {}, {}
  for no, tasks in place[2][2]:gmatch('(%d+)%*(%d+)') do
    runs[#runs + 1] = { no, n, tonumber(tasks) }
    n = n + tasks
  end
  if #runs <= RUNS_FIRST and any_in_stream(step, ms, runs) then return 'live' end
  -- Streams of very many lanes are checked last. In most cases the last task shows that the place is kept.
  local last_run = runs[#runs]
  if call('EXISTS', prefix .. KEY.finished .. last_run[1] .. '.' .. entry_id(ms, n - 1)) == 1 then return 'kept', 1 end
  for _, run in ipairs(runs) do
    for its_n = run[2], run[2] + run[3] - 1 do
      refs[#refs + 1] = run[1] .. '.' .. entry_id(ms, its_n)
      keys[#keys + 1] = prefix .. KEY.finished .. refs[#refs]
    end
  end
  for from = 1, #keys, CHUNK do
    local to = math.min(from + CHUNK - 1, #keys)
    if call('EXISTS', unpack(keys, from, to)) > 0 then return 'kept', #refs end
  end
  if #runs > RUNS_FIRST and any_in_stream(step, ms, runs) then return 'live' end
  -- In most cases the last task decides, at no cost.
  for _, key in ipairs({ KEY.delayed, KEY.dependent, KEY.grouped, KEY.moved, KEY.leases }) do
    if call('HEXISTS', prefix .. key, refs[#refs]) == 1 then return 'live' end
  end
  for from = 1, #refs, CHUNK do
    local to = math.min(from + CHUNK - 1, #refs)
    for _, key in ipairs({ KEY.delayed, KEY.dependent, KEY.grouped, KEY.moved, KEY.leases }) do
      for _, value in ipairs(call('HMGET', prefix .. key, unpack(refs, from, to))) do
        if value then return 'live', #refs end
      end
    end
  end
  return 'gone', #refs
end

-- Deletes places from the index whose tasks are gone, from the position that `key` holds. Stops at the first place that
-- is kept, because all later ones are kept as well, unless `on` says to continue.
local function tidy_index(step, sweep, key, most, on)
  local prefix = step.prefix
  local from = call('GET', prefix .. key) or '0-0'
  local places = call('XRANGE', prefix .. KEY.index, '(' .. from, '+', 'COUNT', most)
  local checked = 0
  for _, place in ipairs(places) do
    local state, tasks = state_of(step, place)
    if state == 'kept' and not on then break end
    if state == 'gone' then call('XDEL', prefix .. KEY.index, place[1]) end
    from = place[1]
    checked = checked + (tasks or 1)
    if checked > 2000 then
      sweep.more = sweep.more or not on
      break
    end
  end
  if on and #places < most then from = '0-0' end
  call('SET', prefix .. key, from)
end
