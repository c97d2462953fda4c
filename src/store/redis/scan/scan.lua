-- Reads tasks in one of their orders, a bounded number per call.
--
-- KEYS  the partition's prefix
-- ARGV  now, order, where to continue or '', most tasks to read, most to return, type or '', part of the tags' JSON or
--       '', group or '', batch or '', status or '', '1' to omit long parts, most bytes, earliest time of acceptance
--       (ms) or '', time before which it was accepted or '', part of the error or ''
--       orders: 'index': all, newest first; 'done:<status>': last finished first; 'lane:<type>:<priority>': in the
--       order in which they will run; 'delayed': by time; 'dependent': by age; 'running': newest first; 'unasked':
--       running tasks that were not asked to stop; 'batch': of a batch, newest first, only those in the status if one
--       is given, which may be 'unasked'
-- Returns {where to continue or '' at the end, '1' if the bytes ended the page, tasks that were read, {ref, position,
--       place, lane's name, text, entry or progress} each}
-- Cost  a look-up for each task read

-- The most groups of a lane whose tasks are listed.
local GROUPS_MAX = 1000
-- The number of entries of each part of a lane that are read at first.
local ENTRIES_MIN = 16

local function is_unasked(found, text) return found == 'running' and not is_cancel_requested(text) end

-- Returns a function that tests whether a task has a status, or is 'unasked'.
local function has_status(status)
  if status == 'unasked' then return is_unasked end
  if status == 'pending' then return function(found) return found ~= 'finished' and found ~= 'running' end end
  if status == 'processing' then return function(found) return found == 'running' end end
  return function(found, text) return found == 'finished' and final_status(text) == status end
end

-- Returns whether a task was accepted within the times of the page; the ref has that time.
local function is_within(page, ms)
  if not page.has_times then return true end
  local accepted_at = tonumber(ms)
  return accepted_at >= page.created_after and accepted_at < page.created_before
end

-- Returns whether the error that a task shows contains a text. `lower` changes ASCII letters only.
local function error_contains(found, text, part)
  local error = error_of(found, text) or ''
  local shown = error:sub(2, -2)
  if error == 'null' or shown == '' then return false end
  if shown:find('\\', 1, true) then
    local is_read, list = pcall(cjson.decode, '[' .. error .. ']')
    if is_read then shown = list[1] end
  end
  return shown:lower():find(part, 1, true) ~= nil
end

-- Notes that a place was read; returns false when the page is full.
local function pass(page, place)
  page.lookups_left = page.lookups_left - 1
  page.next_from = place
  return page.lookups_left > 0 and page.found_tasks < page.most and page.bytes_left > 0
end

-- Adds a task to the page if it passes the filters and suits the order in its present state; returns false when the
-- page is full. `waiting` is the text of a task that is known to wait.
local function offer(step, page, ref, place, suits, waiting)
  local lane = lane_by_ref(step, ref)
  local is_of_type = page.wanted_type == '' or (lane and lane.type == page.wanted_type)
  if is_of_type and (not page.has_times or is_within(page, ref:match('%.(%d+)'))) then
    local found, text, where = 'waiting', waiting, nil
    if not waiting then found, text, where = find(step, ref) end
    local fits = found and (not suits or suits(found, text, ref))
    if fits and page.has_labels then
      local extras = extras_of(text)
      local _, group = labels_in(extras)
      fits = (page.wanted_tag == '' or extras:find(page.wanted_tag, 1, true) ~= nil)
        and (page.wanted_group == '' or (group and limits.group_of(group)) == page.wanted_group)
    end
    if fits and page.wanted_error ~= '' then fits = error_contains(found, text, page.wanted_error) end
    if fits then
      if page.is_bare then
        text = bare_text(text)
        if found == 'running' and #where > 24 then where = 'null' end
      else
        text = payloads.complete(step, ref, text)
      end
      page.bytes_left = page.bytes_left - #text - (found == 'running' and #where or 0)
      page.answers[#page.answers + 1] = { ref, place, found, lane.name, text, where or '' }
      page.found_tasks = page.found_tasks + 1
    end
  end
  return pass(page, place)
end

-- The position to continue from is the last task that was read. It may lie within a run, which has an earlier entry.
-- No place is older than its tasks, so the walk ends at the earliest time. A restored task may have a later place, so
-- a place that is too late is passed only if its tasks are of its time.
local function walk_index(step, page)
  local ms, n = page.from:match('^(%d+)-(%d+)$')
  local newest = page.from == '' and '+' or '(' .. page.from
  local oldest = page.created_after > 0 and string.format('%d', page.created_after) or '-'
  for _, item in ipairs(call('XREVRANGE', step.prefix .. KEY.index, newest, oldest, 'COUNT', page.lookups_left)) do
    local place = task_index.unpack(item)
    if not place.ref and not is_within(page, place.ms) then
      place.runs = {}
      if not pass(page, place.entry) then return end
    end
    if place.ref and not offer(step, page, place.ref, place.entry) then return end
    for index = #place.runs, 1, -1 do
      local run = place.runs[index]
      for its_n = run.n + run.tasks - 1, run.n, -1 do
        local entry = place.ms .. '-' .. its_n
        local is_behind = place.ms ~= ms or its_n < tonumber(n)
        if is_behind and not offer(step, page, run.no .. '.' .. entry, entry) then return end
      end
    end
  end
  page.next_from = ''
end

-- The position is `<entry> <how many tasks of it were read>`. That entry, which may have no more, is read again.
local function walk_done(step, page, status)
  local entry, skip = page.from:match('^(%S+) (%d+)$')
  local stream = step.prefix .. KEY.done .. status
  for _, item in ipairs(call('XREVRANGE', stream, entry or '+', '-', 'COUNT', page.lookups_left + 1)) do
    local place = done.unpack(item)
    local refs = done.refs_of(place)
    local function suits(found, text, ref)
      return found == 'finished' and done.is_its_place(step, ref, status, place, text)
    end
    local first = #refs - (place.entry == entry and tonumber(skip) or 0)
    for index = first, 1, -1 do
      if not offer(step, page, refs[index], place.entry .. ' ' .. (#refs - index + 1), suits) then return end
    end
  end
  page.next_from = ''
end

-- Returns the next entries of a lane itself, returned entries first.
local function entries_of_lane(lane, from, most)
  local found = {}
  for _, entry in ipairs(call('ZRANGE', lane.back, 0, -1)) do
    if entry > from then found[#found + 1] = { entry = entry, part = lane } end
  end
  local last = last_handed_out(lane)
  if from ~= '' and (#last < 24 or from > last) then last = from end
  for _, item in ipairs(call('XRANGE', lane.stream, '(' .. last, '+', 'COUNT', most)) do
    found[#found + 1] = { entry = item[1], part = lane, fields = item[2] }
  end
  return found
end

local function entries_of_group(step, part, from, most)
  local found = entries_of(step, part, most, from)
  for index, entry in ipairs(found) do found[index] = { entry = entry, part = part } end
  return found
end

-- Returns the next groups in `lone`.
local function entries_of_lone(step, lane, from, most)
  local found, lowest = {}, from == '' and '-inf' or '(' .. lone.bound_of(step, lane, from)
  local key = step.prefix .. KEY.lone .. lane.name
  local some = call('ZRANGEBYSCORE', key, lowest, '+inf', 'WITHSCORES', 'LIMIT', 0, most)
  for index = 1, #some, 2 do
    found[#found + 1] = { entry = lone.entry_of(step, lane, some[index + 1]), part = group_lane(lane, some[index]) }
  end
  return found
end

-- Returns the parts of a lane that may have tasks of the page: `read` returns up to `most` entries behind another one,
-- or more, by age; `entries` are those that were read, and `at` is the next of them.
local function parts_of_lane(step, page, lane)
  local prefix, parts = step.prefix, {}
  local function add(read)
    parts[#parts + 1] = { read = read, from = page.from, most = ENTRIES_MIN, entries = {}, at = 1, has_more = true }
  end
  local groups = call('ZRANGE', prefix .. KEY.rotation .. lane.name, 0, GROUPS_MAX - 1)
  for _, group in ipairs(call('HKEYS', prefix .. KEY.at_limit .. lane.name)) do groups[#groups + 1] = group end
  for _, group in ipairs(groups) do
    if group ~= '' and (page.wanted_group == '' or limits.group_of(group) == page.wanted_group) then
      local part = group_lane(lane, group)
      add(function(from, most) return entries_of_group(step, part, from, most) end)
    end
  end
  add(function(from, most) return entries_of_lone(step, lane, from, most) end)
  -- Its own stream has no task of a group.
  if page.wanted_group == '' then add(function(from, most) return entries_of_lane(lane, from, most) end) end
  return parts
end

-- Reads the next entries of a part, each time twice as many.
local function refill(part)
  part.entries, part.at = part.read(part.from, part.most), 1
  part.has_more = #part.entries >= part.most
  part.most = part.most * 2
  if part.has_more then part.from = part.entries[#part.entries].entry end
end

-- Returns the text of a waiting task, or nil: a process of the previous version may have ended a task, but not taken
-- its group out of `lone`.
local function text_of(step, one)
  local part, entry = one.part, one.entry
  if part.group then return call('HGET', step.prefix .. KEY.grouped, part.no .. '.' .. entry) or nil end
  return text_of_entry(step, part, entry, one.fields or call('XRANGE', part.stream, entry, entry)[1][2])
end

-- Returns the next entries of all parts together, by age, as far as all parts were read; and whether there may be more.
local function next_entries(parts)
  local entries, reached = {}, nil
  for _, part in ipairs(parts) do
    if part.has_more and part.at > #part.entries then refill(part) end
    if part.has_more and (not reached or part.from < reached) then reached = part.from end
  end
  for _, part in ipairs(parts) do
    local one = part.entries[part.at]
    while one and (not reached or one.entry <= reached) do
      entries[#entries + 1] = one
      part.at = part.at + 1
      one = part.entries[part.at]
    end
  end
  table.sort(entries, function(a, b) return a.entry < b.entry end)
  return entries, reached ~= nil
end

-- Reads the tasks of all groups of a lane together, by age.
local function walk_lane(step, page, kind, priority)
  local parts = parts_of_lane(step, page, open_lane(step, kind, priority))
  local entries, has_more
  repeat
    entries, has_more = next_entries(parts)
    for _, one in ipairs(entries) do
      local text = text_of(step, one)
      local ref = text and ref_of_head(text, one.part, one.entry)
      if ref and not offer(step, page, ref, one.entry, nil, text) then return end
    end
  until not has_more
  page.next_from = ''
end

-- The position is `<time> <ref>` of the last task.
local function walk_delayed(step, page)
  local prefix = step.prefix
  local skip = 0
  if page.from ~= '' then
    local time, ref = page.from:match('^(%S+) (%S+)$')
    local rank = call('ZRANK', prefix .. KEY.due, ref)
    skip = rank and rank + 1 or call('ZCOUNT', prefix .. KEY.due, '-inf', '(' .. time)
  end
  local due = call('ZRANGE', prefix .. KEY.due, skip, skip + page.lookups_left - 1, 'WITHSCORES')
  for index = 1, #due, 2 do
    if not offer(step, page, due[index], due[index + 1] .. ' ' .. due[index]) then return end
  end
  page.next_from = ''
end

local function walk_dependent(step, page)
  local after = page.from == '' and '-' or '(' .. page.from
  local dependents = step.prefix .. KEY.dependents
  for _, place in ipairs(call('ZRANGEBYLEX', dependents, after, '+', 'LIMIT', 0, page.lookups_left)) do
    if not offer(step, page, ref_of_age(place), place) then return end
  end
  page.next_from = ''
end

-- The position is `<entry> <its place in the list>` of the last task.
local function walk_batch(step, page)
  local key = step.prefix .. KEY.batch .. page.wanted_batch
  local last = (page.from == '' and call('LLEN', key) or tonumber(page.from:match(' (%d+)$'))) - 1
  local first = math.max(last - page.lookups_left + 1, 0)
  if last >= 0 then
    local refs = call('LRANGE', key, first, last)
    local suits = page.wanted_status ~= '' and has_status(page.wanted_status)
    for place = last, first, -1 do
      local ref = refs[place - first + 1]
      if not offer(step, page, ref, ref:match('%.(.*)$') .. ' ' .. place, suits) then return end
    end
  end
  page.next_from = ''
end

local function walk_running(step, page, suits)
  local places = {}
  for _, ref in ipairs(call('HKEYS', step.prefix .. KEY.leases)) do
    local lane, place = ref:match('^(.*)%.(.*)$')
    if page.from == '' or place < page.from then places[#places + 1] = place .. ' ' .. lane end
  end
  -- There may be thousands: sorting plain texts needs no comparison function in Lua.
  table.sort(places)
  for index = #places, 1, -1 do
    local place, lane = places[index]:match('^(%S+) (.*)$')
    if not offer(step, page, lane .. '.' .. place, place, suits) then return end
  end
  page.next_from = ''
end

function steps.scan(step)
  step.hashes = {}
  local order = arg(step)
  local page = { answers = {}, next_from = '', found_tasks = 0 }
  page.from, page.lookups_left, page.most = arg(step), number(step), number(step)
  page.wanted_type, page.wanted_tag, page.wanted_group, page.wanted_batch, page.wanted_status = next_args(step, 5)
  page.is_bare, page.bytes_left = arg(step) == '1', number(step)
  local created_after, created_before, wanted_error = next_args(step, 3)
  page.has_labels, page.has_times = page.wanted_tag .. page.wanted_group ~= '', created_after .. created_before ~= ''
  page.created_after, page.created_before = tonumber(created_after) or 0, tonumber(created_before) or math.huge
  page.wanted_error = wanted_error:lower()
  local most_read = page.lookups_left
  if order == 'index' then
    walk_index(step, page)
  elseif order == 'delayed' then
    walk_delayed(step, page)
  elseif order == 'dependent' then
    walk_dependent(step, page)
  elseif order == 'batch' then
    walk_batch(step, page)
  elseif order == 'running' then
    walk_running(step, page)
  elseif order == 'unasked' then
    walk_running(step, page, is_unasked)
  elseif order:sub(1, 5) == 'done:' then
    walk_done(step, page, order:sub(6))
  else
    walk_lane(step, page, order:sub(6, -3), order:sub(-1))
  end
  return { page.next_from, page.bytes_left <= 0 and '1' or '', most_read - page.lookups_left, page.answers }
end
