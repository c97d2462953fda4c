-- The claims of a turn from groups, in the rotation of a lane. A part of turn.lua.
local take, take_of_group, join_ungrouped, take_one, take_with_limits, next_ready_place, take_in_rotation
do

-- The most groups that one claim checks, and that one round checks.
local CHECKS_MAX, ROUND_MAX = 10000, 1000
-- The most places of a group that do not start a task before a claim of that group ends.
local TRIES = 20

-- Redis copies each answer as a whole for Lua, and new memory costs more than memory that was in use before, so long
-- entries are read a few at a time.
local READ_FIRST, READ_LONG, LONG_BYTES = 16, 4, 16 * 1024

-- Hands out new entries of a lane until there are `most`.
local function read_new(turn, lane, most, entries)
  local at_once, bytes = READ_FIRST, 0
  while #entries < most do
    local wanted = math.min(most - #entries, at_once)
    local answer = call('XREADGROUP', 'GROUP', WORKERS, turn.worker, 'COUNT', wanted, 'STREAMS', lane.stream, '>')
    local read_now = answer and answer[1][2] or {}
    for _, item in ipairs(read_now) do
      local _, payload = unpack_entry(item[2])
      entries[#entries + 1], bytes = item, bytes + #payload
    end
    if #read_now < wanted then return end
    at_once = bytes > #entries * LONG_BYTES and READ_LONG or most
  end
end

-- Hands out up to `most` entries of a lane, returned entries first; returns how many it handed out and started.
function take(step, turn, lane, most, tasks)
  local entries = {}
  local back = turn.has_back and call('ZRANGE', lane.back, 0, most - 1) or {}
  if #back > 0 then
    call('ZREM', lane.back, unpack(back))
    call('XCLAIM', lane.stream, WORKERS, turn.worker, 0, unpack(back))
    for index, entry in ipairs(back) do
      entries[index] = call('XRANGE', lane.stream, entry, entry)[1]
      entries[index].again = true
    end
  end
  if #entries < most then
    read_new(turn, lane, most, entries)
  end
  if #entries == 0 then return 0, 0 end
  return #entries, start(step, turn, lane, entries, tasks)
end

-- Returns the texts of tasks of groups; those of tasks that use limits have been read.
local function texts_of(step, picked, refs)
  local texts, others, places = {}, {}, {}
  for index, one in ipairs(picked) do
    texts[index] = one.text
    if one.text == nil then others[#others + 1], places[#places + 1] = refs[index], index end
  end
  if not others[1] then return texts end
  local found = call('HMGET', step.prefix .. KEY.grouped, unpack(others))
  for place, text in ipairs(found) do texts[places[place]] = text end
  return texts
end

-- Starts tasks of groups, {group, part, entry} each, and marks each that has started; returns the number started.
local function start_picked(step, turn, lane, picked, tasks)
  if #picked == 0 then return 0 end
  local entries, groups, refs, prefix, members, alone = {}, {}, {}, lane.no .. '.', {}, {}
  local uses
  for index, one in ipairs(picked) do
    if one.uses then
      uses = uses or {}
      uses[index] = one.uses
    end
    entries[index], groups[index], refs[index] = one.entry, one.group, prefix .. one.entry
    if one.is_lone then
      alone[#alone + 1] = one.group
    else
      members[#members + 1] = one.part.member_prefix .. one.entry
    end
  end
  local texts = texts_of(step, picked, refs)
  call('HDEL', step.prefix .. KEY.grouped, unpack(refs))
  many('ZREM', step.prefix .. KEY.group_queue .. lane.name, members)
  many('ZREM', step.prefix .. KEY.lone .. lane.name, alone)
  local started, starts = start_grouped(step, turn, lane, entries, groups, refs, texts, tasks, uses)
  for index, one in ipairs(picked) do
    one.started = starts[index]
    if one.uses and not one.started then limits.release(step, one.uses) end
  end
  return started
end

-- Tasks without a group take part in the rotation as one more group.
function join_ungrouped(step, lane)
  if call('ZSCORE', step.prefix .. KEY.rotation .. lane.name, '') then return end
  local first = first_of(step, lane)
  if first then join_one(step, lane, first) end
end

local function is_at_limit(step, lane, one, group_limit)
  local prefix = step.prefix
  local group = one.group
  if not group_limit or group == '' then return false end
  local most = group_permits.limit_of(step, lane.type, group, group_limit)
  if not most or call('SCARD', group_permits.key_of(step, lane.type, group)) < most then return false end
  if limits.are_used(group) then
    local name = limits.of_group(lane.type, limits.group_of(group))
    limits.set_aside(step, lane, one, name, 1, math.huge)
    return true
  end
  local part = one.part or group_lane(lane, group)
  if one.is_lone then lone.leave(step, part) end
  leave_rotation(step, part, one.newcomer)
  call('HSET', prefix .. KEY.at_limit .. lane.name, group, one.newcomer and '' or one.position)
  return true
end

-- Returns whether the limits that the first task of a place uses have room; if not, the place is set aside.
local function fits(step, lane, one)
  local text = call('HGET', step.prefix .. KEY.grouped, lane.no .. '.' .. one.entry)
  one.text, one.uses = text, text and limits.uses_of(step, extras_of(text))
  local name, units, at = nil, nil, nil
  if one.uses then name, units, at = limits.blocker(step, one.uses) end
  if name then limits.set_aside(step, lane, one, name, units, at) end
  return not name
end

-- Returns whether the first task of a place may start; sets its entry.
local function has_task(step, lane, one, group_limit)
  local prefix = step.prefix
  if one.is_lone then
    if not limits.are_used(one.group) then return not is_at_limit(step, lane, one, group_limit) end
    -- A process of the previous version has added it.
    lone.leave(step, group_lane(lane, one.group))
    return false
  end
  local part, first, second = one.part, one.newcomer, nil
  if not part.group then
    first = first_of(step, part)
  elseif one.is_crowded or one.most or not first then
    one.entries = entries_of(step, part, (one.most or 1) + 1)
    first, second = one.entries[1], one.entries[2]
    if one.is_crowded and not second then call('SREM', prefix .. KEY.crowded .. part.name, part.group) end
  end
  if not first then
    leave_rotation(step, part, one.newcomer, one.position)
    call('SREM', prefix .. KEY.crowded .. part.name, part.group or '')
    limits.emptied(step, lane, one.group)
    return false
  end
  one.entry, one.has_more = first, second ~= nil
  if is_at_limit(step, lane, one, group_limit) then return false end
  return not limits.are_used(one.group) or fits(step, lane, one)
end

-- Returns the next place with a task that may start; nil if there is none.
function next_ready_place(step, lane, group_limit)
  for _ = 1, CHECKS_MAX do
    local places = order.next_places(step, lane, 1)
    if not places or limits.is_tired(step, lane) then return nil end
    if places[1] and has_task(step, lane, places[1], group_limit) then return places[1] end
    limits.write_aside(step)
  end
end

-- Starts the first task of a place; returns the number started, and whether a limit that other claims have used since
-- is in the way.
function take_one(step, turn, lane, one, tasks)
  local started
  if one.uses then
    if not fits(step, lane, one) then
      limits.write_aside(step)
      return 0, true
    end
    limits.reserve(step, one.uses)
  end
  if one.group ~= '' then
    started = start_picked(step, turn, lane, { one }, tasks)
  else
    local _
    _, started = take(step, turn, lane, 1, tasks)
    one.started = started > 0
  end
  order.move_on(step, lane, { one })
  return started, false
end

-- The same for a place that may have no task to start, given its position.
local function take_place(step, turn, lane, one, tasks, group_limit)
  if tonumber(one.position) < 0 then one.newcomer = first_of(step, one.part) end
  one.is_crowded = true
  local started = has_task(step, lane, one, group_limit) and (take_one(step, turn, lane, one, tasks)) or 0
  limits.write_aside(step)
  return started
end

-- Claims from the lanes of a group whose tasks use limits, in the order of the rotation; returns the number started.
function take_with_limits(step, turn, lane, group, want, tasks, group_limit)
  if lane.has_limits == nil then lane.has_limits = limits.are_in_groups(step, lane) end
  local members = lane.has_limits and limits.lanes_of(step, lane, group) or {}
  if not members[1] then return 0 end
  limits.bring_back_fitting(step, lane, members)
  local got = 0
  for _ = 1, want + TRIES do
    local next_one
    for index, position in ipairs(call('ZMSCORE', step.prefix .. KEY.rotation .. lane.name, unpack(members))) do
      if position and got < want and (not next_one or tonumber(position) < tonumber(next_one.position)) then
        next_one = { group = members[index], part = group_lane(lane, members[index]), position = position }
      end
    end
    if not next_one then break end
    got = got + take_place(step, turn, lane, next_one, tasks, group_limit)
  end
  return got
end

-- Starts up to `most` tasks of groups in `lone` that are next in the rotation, without a limit of the group; returns
-- how many it handed out and started.
local function take_lone(step, turn, lane, most, tasks)
  local key = step.prefix .. KEY.lone .. lane.name
  local first = call('ZRANGE', step.prefix .. KEY.rotation .. lane.name, 0, 0, 'WITHSCORES')
  if first[2] and tonumber(first[2]) < 0 then
    local newcomer = call('ZRANGE', step.prefix .. KEY.unserved .. lane.name, 0, 0)[1]
    if not newcomer then return 0, 0 end
    most = math.min(most, call('ZCOUNT', key, '-inf', '(' .. lone.bound_of(step, lane, newcomer:sub(1, 24))))
    if most == 0 then return 0, 0 end
  end
  local found = call('ZPOPMIN', key, most)
  if not found[1] then return 0, 0 end
  local entries, groups, refs, prefix = {}, {}, {}, lane.no .. '.'
  for index = 2, #found, 2 do
    local entry, group, place = lone.entry_of(step, lane, found[index]), found[index - 1], #entries + 1
    if limits.are_used(group) then
      -- A process of the previous version has added it.
      call('ZADD', key, found[index], group)
      lone.leave(step, group_lane(lane, group))
    else
      entries[place], groups[place], refs[place] = entry, group, prefix .. entry
    end
  end
  if not entries[1] then return #found / 2, 0 end
  local texts = call('HMGET', step.prefix .. KEY.grouped, unpack(refs))
  call('HDEL', step.prefix .. KEY.grouped, unpack(refs))
  local started, starts = start_grouped(step, turn, lane, entries, groups, refs, texts, tasks)
  if started > 0 and order.has_served(step, lane) then
    local last_position = call('INCRBY', step.prefix .. KEY.rotation_clock .. lane.name, #groups) - #groups
    local positions = {}
    for index, group in ipairs(groups) do
      local size = #positions
      local position = string.format('%d', last_position + index)
      if starts[index] then positions[size + 1], positions[size + 2] = group, position end
    end
    many('HSET', step.prefix .. KEY.rested .. lane.name, positions)
  end
  return #groups, started
end

-- Returns the first tasks of a lane that its limits allow to start, and reserves their units; the first task has been
-- checked. The room for tasks that use the same is computed once.
local function read_run(step, lane, one, most)
  local run = { entries = {}, groups = {}, refs = {}, texts = { one.text }, uses = { one.uses or false } }
  local prefix = lane.no .. '.'
  local size, current, same, left = math.min(most, #one.entries), one.uses, 0, 0
  if current then
    limits.reserve(step, current)
    left = limits.fitting(step, current, size - 1)
    size = left + 1
  end
  for index = 1, size do run.refs[index] = prefix .. one.entries[index] end
  local texts = size > 1 and call('HMGET', step.prefix .. KEY.grouped, unpack(run.refs, 2, size)) or {}
  local lines, first_uses = current and one.text:match('^[^\n]*\n[^\n]*\n'), current
  for index, text in ipairs(texts) do
    local is_alike = text and lines and text:find(lines, 1, true) == 1
    local uses = is_alike and first_uses or (text and limits.uses_of(step, extras_of(text))) or false
    if uses and (uses ~= current or left == 0) then
      if same > 0 then limits.reserve(step, current, same) end
      current, same, left = uses, 0, limits.fitting(step, uses, #texts - index + 1)
      if left == 0 then break end
    end
    if uses then same, left = same + 1, left - 1 end
    run.texts[index + 1], run.uses[index + 1] = text, uses
  end
  if same > 0 then limits.reserve(step, current, same) end
  for index = 1, #run.texts do run.entries[index], run.groups[index] = one.entries[index], one.group end
  for index = #run.texts + 1, #run.refs do run.refs[index] = nil end
  return run
end

-- Starts up to `most` tasks of the only lane in the rotation, which uses limits; returns the number started.
local function take_run(step, turn, lane, one, most, tasks)
  one.most = math.min(most, ROUND_MAX)
  if not has_task(step, lane, one, nil) then return 0 end
  local run = read_run(step, lane, one, one.most)
  local taken, queue, prefix = #run.entries, step.prefix .. KEY.group_queue .. lane.name, one.part.member_prefix
  call('HDEL', step.prefix .. KEY.grouped, unpack(run.refs))
  call('ZREMRANGEBYLEX', queue, '[' .. prefix .. run.entries[1], '[' .. prefix .. run.entries[taken])
  local started, starts = start_grouped(step, turn, lane, run.entries, run.groups, run.refs, run.texts, tasks, run.uses)
  for index, uses in ipairs(run.uses) do
    if uses and not starts[index] then limits.release(step, uses) end
  end
  one.started, one.has_more, one.starts = started > 0, #one.entries > taken, started
  if not one.has_more then call('SREM', step.prefix .. KEY.crowded .. lane.name, one.group) end
  order.move_on(step, lane, { one })
  return started
end

-- Starts up to `most` tasks without a group, which have the only place in the rotation; returns how many it handed out
-- and started.
local function take_ungrouped(step, turn, lane, one, most, tasks)
  if not has_task(step, lane, one, nil) then return 0, 0 end
  local handed_out, started = take(step, turn, lane, most, tasks)
  one.started, one.starts = started > 0, started
  order.move_on(step, lane, { one })
  return handed_out, started
end

-- Starts one task of each group in the order of the rotation.
function take_in_rotation(step, turn, lane, most, tasks, group_limit)
  join_ungrouped(step, lane)
  local got, checks, at_once = 0, 0, 0
  while got < most and checks < CHECKS_MAX and not limits.is_tired(step, lane) do
    local handed_out, started = 0, 0
    if not group_limit then
      handed_out, started = take_lone(step, turn, lane, math.min(most - got, ROUND_MAX), tasks)
    end
    got, checks = got + started, checks + handed_out
    if got >= most then break end
    local places_read = math.min(math.max(most - got, at_once), ROUND_MAX)
    local places = order.next_places(step, lane, places_read)
    if not places then break end
    local only = #places == 1 and most - got > 1 and places[1]
    if only and only.group == '' then
      handed_out, started = take_ungrouped(step, turn, lane, only, most - got, tasks)
      got, checks, places = got + started, checks + handed_out, {}
    elseif only and only.part and limits.are_used(only.group)
      and (not group_limit or limits.group_of(only.group) == '') then
      got = got + take_run(step, turn, lane, only, most - got, tasks)
      places = {}
    end
    local picked, all, checked = {}, {}, {}
    checks = checks + 1
    -- More places than were read are not all of the next ones.
    for index = 1, math.min(#places, places_read) do
      local one = places[index]
      if got + #picked >= most then break end
      checks = checks + 1
      -- A process of the previous version may have given a group in `lone` a second place. Its limit allows one start
      -- at a time.
      local group = group_limit and limits.group_of(one.group)
      if not group or group == '' then group = one.group end
      local is_first = not checked[group]
      checked[group] = true
      if is_first and has_task(step, lane, one, group_limit) then
        all[#all + 1] = one
        if one.group ~= '' then
          if one.uses then limits.reserve(step, one.uses) end
          picked[#picked + 1] = one
        else
          -- Keeps the order of the rotation.
          got = got + start_picked(step, turn, lane, picked, tasks)
          local _, started = take(step, turn, lane, 1, tasks)
          one.started, picked = started > 0, {}
          got = got + started
        end
      end
    end
    got = got + start_picked(step, turn, lane, picked, tasks)
    order.move_on(step, lane, all)
    -- Many lanes may wait for limits, so the next round checks more of them.
    if limits.write_aside(step) then at_once = math.max(at_once, 8) * 4 end
  end
  return got
end

-- Starts up to `most` tasks of one group; returns how many it handed out and started.
function take_of_group(step, turn, lane, part, most, tasks)
  local entries, picked = entries_of(step, part, most + 1), {}
  for index = 1, math.min(most, #entries) do
    picked[index] = { group = part.group, part = part, entry = entries[index] }
  end
  if #picked == 0 then return 0, 0 end
  local started = start_picked(step, turn, lane, picked, tasks)
  if #entries == #picked then call('SREM', step.prefix .. KEY.crowded .. lane.name, part.group) end
  if started > 0 then
    local has_more = #entries > #picked
    local one = { group = part.group, part = part, newcomer = entries[1], has_more = has_more, starts = started }
    order.serve(step, lane, { one })
  else
    renew_age(step, part, entries[1])
  end
  return #picked, started
end

end
