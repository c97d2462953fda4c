-- Deletes the places of removed tasks from the index of all tasks; a part of sweep.lua.

local RUNS_FIRST = 10

-- Returns whether a task of the runs of a place is in the stream of its lane.
local function any_in_stream(step, place)
  for _, run in ipairs(place.runs) do
    local lane = lane_by_ref(step, run.no .. '.0')
    local first, last = entry_id(place.ms, run.n), entry_id(place.ms, run.n + run.tasks - 1)
    if #call('XRANGE', lane.stream, first, last, 'COUNT', 1) > 0 then return true end
  end
  return false
end

-- Returns the state of the tasks of a place in the index: all gone, at least one finished task kept, or at least one
-- still live; and the number of tasks checked.
local function state_of(step, place)
  local prefix = step.prefix
  if place.ref then
    local found = find(step, place.ref)
    return found == 'finished' and 'kept' or found and 'live' or 'gone', 1
  end
  local refs, keys, runs = {}, {}, place.runs
  if #runs <= RUNS_FIRST and any_in_stream(step, place) then return 'live' end
  -- Streams of very many lanes are checked last. In most cases the last task shows that the place is kept.
  local last_ref = runs[#runs].no .. '.' .. entry_id(place.ms, place.n + place.tasks - 1)
  if call('EXISTS', prefix .. KEY.finished .. last_ref) == 1 then return 'kept', 1 end
  for _, run in ipairs(runs) do
    for n = run.n, run.n + run.tasks - 1 do
      refs[#refs + 1] = run.no .. '.' .. entry_id(place.ms, n)
      keys[#keys + 1] = prefix .. KEY.finished .. refs[#refs]
    end
  end
  for from = 1, #keys, CHUNK do
    local to = math.min(from + CHUNK - 1, #keys)
    if call('EXISTS', unpack(keys, from, to)) > 0 then return 'kept', #refs end
  end
  if #runs > RUNS_FIRST and any_in_stream(step, place) then return 'live' end
  -- In most cases the last task decides, at no cost.
  for _, key in ipairs({ KEY.delayed, KEY.dependent, KEY.grouped, KEY.moved, KEY.leases }) do
    if call('HEXISTS', prefix .. key, last_ref) == 1 then return 'live' end
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
  local before = call('GET', prefix .. key) or '0-0'
  local from, is_over = before, on
  local places = call('XRANGE', prefix .. KEY.index, '(' .. from, '+', 'COUNT', most)
  local checked = 0
  for _, item in ipairs(places) do
    local place = task_index.unpack(item)
    local state, tasks = state_of(step, place)
    if state == 'kept' and not on then
      is_over = true
      break
    end
    if state == 'gone' then
      call('XDEL', prefix .. KEY.index, place.entry)
      sweep.tidies = true
    end
    from = place.entry
    checked = checked + (tasks or 1)
    if checked > 2000 then
      sweep.more = sweep.more or not on
      break
    end
  end
  if #places == most and not is_over then sweep.tidies = true end
  if on and #places < most then from = '0-0' end
  if from ~= before then call('SET', prefix .. key, from) end
end
