-- What tasks use of named limits; a part of the code that all steps share. limits.lua has the limits.
--
-- A task that uses limits has the name of its lane in place of its group: the group and the names of the limits,
-- separated by U+001F (laneOf in task/uses.ts). A process of the previous version takes it for a group, so it finds
-- the task, and keeps the records right, without regard to the limits.
do

local SEPARATOR = '\31'

function limits.are_used(member) return member:find(SEPARATOR, 1, true) ~= nil end
-- The same for a task, by its extras, which are JSON.
function limits.are_in(extras) return extras:find('\\u001f', 1, true) ~= nil end

-- Returns the group of a lane, '' for none.
function limits.group_of(member)
  local ends = member:find(SEPARATOR, 1, true)
  return ends and member:sub(1, ends - 1) or member
end

function limits.names_of(member)
  local names = {}
  for name in member:gmatch(SEPARATOR .. '([^' .. SEPARATOR .. ']+)') do names[#names + 1] = name end
  return names
end

-- The name under which lanes wait for the limit of their group, and back; no other limit has such a name.
function limits.of_group(kind, group) return 'group:' .. kind .. '/' .. group end
function limits.group_in(name) return name:match('^group:([^/]*)/(.*)$') end

-- Returns what a step knows of named limits, and what it changes.
function limits.all_of(step)
  local all = step.of_limits
  if not all then
    -- What is known of each limit; the limits that may have room for lanes that wait; what extras say, and the uses in
    -- them by their text; refs of leases that began and that ended, by uses; corrections of starts; changes of numbers
    -- in `limits_now`, by uses; limits whose units have changed; when the next limit opens; lanes to set aside, and
    -- their number; lanes in which the next step continues.
    all = {
      states = {}, touched = {}, labels = {}, uses = {}, begun = {}, ended = {}, corrections = {},
      counted = { ['#'] = {}, ['~'] = {} }, changed = {}, opens_at = nil, aside = {}, aside_count = 0, left_over = {},
    }
    step.of_limits = all
  end
  return all
end

-- Records that a limit may have room for lanes that wait for it.
function limits.touch(step, name) limits.all_of(step).touched[name] = true end

-- Returns the uses in extras, {names, units}: the same table for the same limits and units, so that a step changes what
-- many tasks use at once.
local function uses_in(all, unpacked)
  local names, units = limits.names_of(unpacked.group), {}
  for index, name in ipairs(names) do units[index] = unpacked.uses[name] or 1 end
  local text = table.concat(names, SEPARATOR) .. SEPARATOR .. table.concat(units, ',')
  all.uses[text] = all.uses[text] or { names = names, units = units }
  return all.uses[text]
end

-- Returns what the extras of a task that uses limits say, {key, lane, group: '' for none, uses}; nil for another task.
function limits.labels_of(step, extras)
  if not limits.are_in(extras) then return nil end
  local all = limits.all_of(step)
  local labels = all.labels[extras]
  if labels == nil then
    local unpacked = unpack_stored_extras(extras)
    local lane = unpacked.group
    labels = unpacked.uses and {
      key = unpacked.key, lane = lane, group = limits.group_of(lane), uses = uses_in(all, unpacked),
    } or false
    all.labels[extras] = labels
  end
  return labels or nil
end

-- Returns the limits that a task uses and the units of each; nil for none.
function limits.uses_of(step, extras)
  local labels = limits.labels_of(step, extras)
  return labels and labels.uses
end

end
