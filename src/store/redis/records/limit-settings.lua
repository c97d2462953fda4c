-- Changes of the settings of named limits; a part of the code that all steps share. limit-record.ts decides them.
local limit_settings = {}

-- Returns the settings of limits as the caller compares them: the own text of each, that of its family, and until when
-- each is held, '' for none.
function limit_settings.read(step, names)
  local prefix, records, names_at_once = step.prefix, {}, 1000
  for from = 1, #names, names_at_once do
    local fields, holds = {}, {}
    for index = from, math.min(from + names_at_once - 1, #names) do
      local size, name, family = #fields, names[index], limits.family_of(names[index])
      fields[size + 1], fields[size + 2], holds[size + 1], holds[size + 2] = name, family, '@' .. name, '@' .. family
    end
    local texts = call('HMGET', prefix .. KEY.limits, unpack(fields))
    local times = call('HMGET', prefix .. KEY.limits_now, unpack(holds))
    for place = 1, #fields, 2 do
      local has_family = fields[place] ~= fields[place + 1]
      local of_family, family_held = has_family and texts[place + 1], has_family and times[place + 1]
      records[#records + 1] = { texts[place] or '', times[place] or '', of_family or '', family_held or '' }
    end
  end
  return records
end

-- Reads the replacements of a step: the name of each, its settings and hold before, and the same after, '' for none.
function limit_settings.next_args(step)
  local replacements = {}
  for index = 1, number(step) do
    local one = {}
    one.name, one.before, one.held_before, one.after, one.held = next_args(step, 5)
    replacements[index] = one
  end
  return replacements
end

-- Returns why replacements cannot be written: 'changed' since they were decided, or 'too_many' limits; nil if they can.
function limit_settings.refuse(step, replacements)
  local added = 0
  for _, one in ipairs(replacements) do
    local own, held = unpack(limit_settings.read(step, { one.name })[1])
    if own ~= one.before or held ~= one.held_before then return 'changed' end
    if one.before == '' and one.after ~= '' then added = added + 1 end
  end
  if added > 0 and call('HLEN', step.prefix .. KEY.limits) + added > LIMITS_MAX then return 'too_many' end
end

-- Lets the lanes of each key return that may start now.
local function open_keys(step, family)
  local prefix, parked, due = family:sub(1, -2), step.prefix .. KEY.limits_parked, {}
  for _, name in ipairs(call('ZRANGE', parked, 0, -1)) do
    if name:sub(1, #prefix) == prefix then due[#due + 1] = step.now_text
      due[#due + 1] = name end
  end
  many('ZADD', parked, due)
  if due[1] then broadcast(step, 'due ' .. step.now_text) end
end

-- Applies the changed limit of one group.
local function apply_to_group(step, kind, group)
  if call('HEXISTS', step.prefix .. KEY.rules, kind) == 0 then return end
  group_permits.keep(step, kind)
  call('HSET', step.prefix .. KEY.rules, kind .. '/group_permits', '2')
  step.group_permits_kept[kind] = '2'
  for _, lane in ipairs(lanes_of_type(step, kind)) do end_at_limit(step, lane, group) end
  limits.touch(step, limits.of_group(kind, group))
end

-- Writes a replacement, and applies it to what waits.
function limit_settings.write(step, one)
  local prefix, name = step.prefix, one.name
  local function put(key, field, value)
    if value == '' then call('HDEL', prefix .. key, field) else call('HSET', prefix .. key, field, value) end
  end
  put(KEY.limits, name, one.after)
  put(KEY.limits_now, '@' .. name, one.held)
  -- After a removal, the rate of all keys may be in force again.
  local in_force = limits.read_settings(step, { name })[1]
  if in_force == '' or not limits.unpack(in_force).rate_max then call('DEL', prefix .. KEY.limit_starts .. name) end
  local kind, group = limits.group_in(name)
  if kind then return apply_to_group(step, kind, group) end
  limits.touch(step, name)
  if name:sub(-2) == '/*' and limits.family_of(name) == name then open_keys(step, name) end
end

-- Returns whether an unfinished task uses a limit, or a key that has only the settings of this one.
function limit_settings.are_used(step, name)
  local prefix = step.prefix
  local now = prefix .. KEY.limits_now
  if tonumber(call('HGET', now, '#' .. name) or 0) > 0 then return true end
  if limits.family_of(name) ~= name or name:sub(-2) ~= '/*' then return false end
  local cursor, found, keys = '0', nil, '#' .. name:sub(1, -2)
  repeat
    cursor, found = unpack(call('HSCAN', now, cursor, 'COUNT', 1000))
    for index = 1, #found, 2 do
      local field = found[index]
      local is_key = field:sub(1, #keys) == keys and tonumber(found[index + 1]) > 0
      if is_key and call('HEXISTS', prefix .. KEY.limits, field:sub(2)) == 0 then return true end
    end
  until cursor == '0'
  return false
end
