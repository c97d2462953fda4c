-- Reads tasks in one of their orders, a bounded number per call.
--
-- KEYS  the partition's prefix
-- ARGV  now, order, where to continue or '', most tasks to read, most to return, type or '', part of the tags' JSON or
--       '', group or '', batch or '', status or '', '1' to omit long parts, most bytes
--       orders: 'index': all, newest first; 'done:<status>': last finished first; 'lane:<type>:<priority>': in the
--       order in which they will run; 'delayed': by time; 'dependent': by age; 'running': newest first; 'unasked':
--       running tasks that were not asked to stop; 'batch': of a batch, newest first, only those in the status if one
--       is given, which may be 'unasked'
-- Returns {where to continue or '' at the end, '1' if the bytes ended the page, {ref, place, lane's name, text, entry
--       or progress, position, …}}
-- Cost  a look-up for each task read
local from, lookups_left, most, wanted_type, wanted_tag, wanted_group, wanted_batch, wanted_status
local is_bare, bytes_left
local answers, next_from, found_tasks

-- The most groups of a lane whose tasks are listed.
local GROUPS_MAX = 1000

local function is_unasked(found, text) return found == 'L' and text:find('^%d+|0|') ~= nil end

-- Returns a function that tests whether a task has a status, or is 'unasked'.
local function has_status(status)
  if status == 'unasked' then return is_unasked end
  if status == 'pending' then return function(found) return found ~= 'F' and found ~= 'L' end end
  if status == 'processing' then return function(found) return found == 'L' end end
  return function(found, text) return found == 'F' and text:match('^%l+') == status end
end

-- Adds a task to the page if it passes the filters and suits the order in its present state; returns false when the
-- page is full.
local function offer(ref, place, suits)
  local lane = lane_by_ref(ref)
  if wanted_type == '' or (lane and lane.type == wanted_type) then
    local found, text, where = find(ref)
    local fits = found and (not suits or suits(found, text, ref))
    if fits and wanted_tag .. wanted_group ~= '' then
      local _, extras = lines_of(text)
      local _, group = labels_in(extras)
      fits = (wanted_tag == '' or extras:find(wanted_tag, 1, true) ~= nil)
        and (wanted_group == '' or group == wanted_group)
    end
    if fits then
      if is_bare then
        text = bare_text(text)
        if found == 'L' and #where > 24 then where = 'null' end
      end
      bytes_left = bytes_left - #text - (found == 'L' and #where or 0)
      for _, value in ipairs({ ref, found, lane.name, text, where or '', place }) do
        answers[#answers + 1] = value
      end
      found_tasks = found_tasks + 1
    end
  end
  lookups_left = lookups_left - 1
  next_from = place
  return lookups_left > 0 and found_tasks < most and bytes_left > 0
end

-- The position to continue from is the last task that was read.
local function walk_index()
  local ms, n = from:match('^(%d+)-(%d+)$')
  for _, place in ipairs(call('XREVRANGE', P .. KEY.index, from == '' and '+' or from, '-', 'COUNT', lookups_left)) do
    local place_ms, place_n = place[1]:match('^(%d+)-(%d+)$')
    local refs, next_n = {}, tonumber(place_n)
    -- A restored task has an entry of its own, at the time when it was restored.
    if place[2][1] == 'r' and place[1] ~= from and not offer(place[2][2], place[1]) then return end
    for no, tasks in place[2][2]:gmatch('(%d+)%*(%d+)') do
      for _ = 1, tonumber(tasks) do
        if place_ms ~= ms or next_n < tonumber(n) then refs[#refs + 1] = no .. '.' .. entry_id(place_ms, next_n) end
        next_n = next_n + 1
      end
    end
    for index = #refs, 1, -1 do
      if not offer(refs[index], refs[index]:match('%.(.*)$')) then return end
    end
  end
  next_from = ''
end

-- The position is `<entry> <how many tasks of it were read>`.
local function walk_done(status)
  local entry, skip = from:match('^(%S+) (%d+)$')
  for _, place in ipairs(call('XREVRANGE', P .. KEY.done .. status, entry or '+', '-', 'COUNT', lookups_left)) do
    local refs = {}
    local function suits(found, text, ref) return found == 'F' and is_its_place(ref, status, place, text) end
    for ref in place[2][4]:gmatch('%S+') do refs[#refs + 1] = ref end
    local first = #refs - (place[1] == entry and tonumber(skip) or 0)
    for index = first, 1, -1 do
      if not offer(refs[index], place[1] .. ' ' .. (#refs - index + 1), suits) then return end
    end
  end
  next_from = ''
end

-- Adds the next entries of a part of a lane, returned entries first.
local function add_entries(part, entries)
  if part.group then
    for _, entry in ipairs(entries_of(part, lookups_left, from)) do entries[#entries + 1] = { entry, part } end
    return
  end
  for _, entry in ipairs(call('ZRANGE', part.back, 0, -1)) do
    if entry > from then entries[#entries + 1] = { entry, part } end
  end
  local last = last_handed_out(part)
  if from ~= '' and (#last < 24 or from > last) then last = from end
  for _, item in ipairs(call('XRANGE', part.stream, '(' .. last, '+', 'COUNT', lookups_left)) do
    entries[#entries + 1] = { item[1], part }
  end
end

-- Adds the next groups in `lone`.
local function add_lone(lane, entries)
  local key, lowest = P .. KEY.lone .. lane.name, from == '' and '-inf' or '(' .. lone.bound_of(lane, from)
  local found = call('ZRANGEBYSCORE', key, lowest, '+inf', 'WITHSCORES', 'LIMIT', 0, lookups_left)
  for index = 1, #found, 2 do
    entries[#entries + 1] = { lone.entry_of(lane, found[index + 1]), group_lane(lane, found[index]) }
  end
end

-- Reads the tasks of all groups of a lane together, by age.
local function walk_lane(kind, priority)
  local lane = open_lane(kind, priority)
  local entries = {}
  add_entries(lane, entries)
  local groups = call('ZRANGE', P .. KEY.rotation .. lane.name, 0, GROUPS_MAX - 1)
  for _, group in ipairs(call('HKEYS', P .. KEY.at_limit .. lane.name)) do groups[#groups + 1] = group end
  for _, group in ipairs(groups) do
    if group ~= '' then add_entries(group_lane(lane, group), entries) end
  end
  add_lone(lane, entries)
  table.sort(entries, function(a, b) return a[1] < b[1] end)
  local full = #entries >= lookups_left
  for _, item in ipairs(entries) do
    local entry, part = item[1], item[2]
    local m
    if part.group then
      m = (call('HGET', P .. KEY.grouped, part.no .. '.' .. entry) or ''):match('^[^\n]*')
    else
      local again = call('HGET', P .. KEY.again, part.no .. '.' .. entry)
      m = again and again:match('^[^\n]*') or entry_of(part.stream, entry).m
    end
    -- A process of the previous version may have ended a task, but not taken its group out of `lone`.
    if m ~= '' and not offer(head_of(m, part, entry).ref, entry) then return end
  end
  if not full then next_from = '' end
end

-- The position is `<time> <ref>` of the last task.
local function walk_delayed()
  local skip = 0
  if from ~= '' then
    local time, ref = from:match('^(%S+) (%S+)$')
    local rank = call('ZRANK', P .. KEY.due, ref)
    skip = rank and rank + 1 or call('ZCOUNT', P .. KEY.due, '-inf', '(' .. time)
  end
  local due = call('ZRANGE', P .. KEY.due, skip, skip + lookups_left - 1, 'WITHSCORES')
  for index = 1, #due, 2 do
    if not offer(due[index], due[index + 1] .. ' ' .. due[index]) then return end
  end
  next_from = ''
end

local function walk_dependent()
  local after = from == '' and '-' or '(' .. from
  for _, place in ipairs(call('ZRANGEBYLEX', P .. KEY.dependents, after, '+', 'LIMIT', 0, lookups_left)) do
    if not offer(ref_of_age(place), place) then return end
  end
  next_from = ''
end

-- The position is `<entry> <its place in the list>` of the last task.
local function walk_batch()
  local key = P .. KEY.batch .. wanted_batch
  local last = (from == '' and call('LLEN', key) or tonumber(from:match(' (%d+)$'))) - 1
  local first = math.max(last - lookups_left + 1, 0)
  if last >= 0 then
    local refs = call('LRANGE', key, first, last)
    local suits = wanted_status ~= '' and has_status(wanted_status)
    for place = last, first, -1 do
      local ref = refs[place - first + 1]
      if not offer(ref, ref:match('%.(.*)$') .. ' ' .. place, suits) then return end
    end
  end
  next_from = ''
end

local function walk_running(suits)
  local places = {}
  for _, ref in ipairs(call('HKEYS', P .. KEY.leases)) do
    local lane, place = ref:match('^(.*)%.(.*)$')
    if from == '' or place < from then places[#places + 1] = place .. ' ' .. lane end
  end
  -- There may be thousands: sorting plain texts needs no comparison function in Lua.
  table.sort(places)
  for index = #places, 1, -1 do
    local place, lane = places[index]:match('^(%S+) (.*)$')
    if not offer(lane .. '.' .. place, place, suits) then return end
  end
  next_from = ''
end

function steps.scan()
  local order = arg()
  from, lookups_left, most, wanted_type, wanted_tag, wanted_group = arg(), number(), number(), arg(), arg(), arg()
  wanted_batch, wanted_status, is_bare, bytes_left = arg(), arg(), arg() == '1', number()
  answers, next_from, found_tasks = {}, '', 0
  if order == 'index' then
    walk_index()
  elseif order == 'delayed' then
    walk_delayed()
  elseif order == 'dependent' then
    walk_dependent()
  elseif order == 'batch' then
    walk_batch()
  elseif order == 'running' then
    walk_running()
  elseif order == 'unasked' then
    walk_running(is_unasked)
  elseif order:sub(1, 5) == 'done:' then
    walk_done(order:sub(6))
  else
    walk_lane(order:sub(6, -3), order:sub(-1))
  end
  return { next_from, bytes_left <= 0 and '1' or '', answers }
end
