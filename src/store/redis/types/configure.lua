-- Replaces the records of types, each if it is still the one that the change was decided on (type-record.ts).
--
-- KEYS  the partition's prefix
-- ARGV  now, '1' from a process that has used the store before, number of named limits that the handlers of these types
--       declare, (name, settings and hold before, the same after, '' for none) each, number of types, each; then for
--       each: digest of the record before or '' for none, '1' if a handler declares it, the values of TYPE_FIELDS
-- Returns for each type '1', or '' if its record has changed; or {'changed'} or {'too_many'} because of the limits, and
--       then nothing has changed
-- Cost  two commands for each field of all types together, and several for each type whose limits change
local TYPES_PER_MESSAGE = 500

-- Adds what changes in a record to the values to set and the names to remove, by key.
local function note_changes(changes, kind, before, after)
  for field, key in pairs(TYPE_KEYS) do
    if after[field] == '' and before[field] ~= '' then append(changes.removed, key, kind) end
    if after[field] ~= '' and after[field] ~= before[field] then
      append(changes.set, key, kind)
      append(changes.set, key, after[field])
    end
  end
  if after.held ~= before.held then
    local is_set = after.held ~= ''
    append(is_set and changes.set or changes.removed, KEY.rules, kind .. '/held')
    if is_set then append(changes.set, KEY.rules, after.held) end
  end
  if after.declared ~= before.declared then append(changes.declared, after.declared, kind) end
end

local function write_changes(step, changes)
  local prefix = step.prefix
  for key, values in pairs(changes.set) do many('HSET', prefix .. key, values) end
  for key, names in pairs(changes.removed) do many('HDEL', prefix .. key, names) end
  many('SADD', prefix .. KEY.declared, changes.declared['1'] or {})
  many('SREM', prefix .. KEY.declared, changes.declared['0'] or {})
end

-- Applies changed limits to what waits for them.
local function apply(step, kind, before, after)
  local prefix = step.prefix
  local rules = unpack_rules(after.rules)
  local rules_before = unpack_rules(before.rules == '' and NEW_RULES or before.rules)
  if rules.rate_max == '' and rules_before.rate_max ~= '' then
    call('DEL', prefix .. KEY.starts .. kind)
    call('HDEL', prefix .. KEY.started, kind)
  end
  if rules.group_limit ~= rules_before.group_limit then
    if rules.group_limit ~= '' then group_permits.keep(step, kind) end
    for _, lane in ipairs(lanes_of_type(step, kind)) do
      for _, group in ipairs(call('HKEYS', prefix .. KEY.at_limit .. lane.name)) do end_at_limit(step, lane, group) end
    end
  end
  if before.turns:sub(1, 5) == 'time,' and after.turns:sub(1, 5) ~= 'time,' then
    for _, lane in ipairs(lanes_of_type(step, kind)) do shared_time.ended_for(step, lane) end
  end
  if before.rules ~= '' and (after.rules ~= before.rules or after.held ~= before.held) then unpark(step, kind) end
end

-- The previous version accepts only one type in a message.
local function announce(step, kinds)
  if #kinds == 1 then return broadcast(step, 'type ' .. kinds[1]) end
  for from = 1, #kinds, TYPES_PER_MESSAGE do
    local to = math.min(from + TYPES_PER_MESSAGE - 1, #kinds)
    broadcast(step, 'types ' .. table.concat(kinds, ' ', from, to))
  end
end

function steps.configure(step)
  has_lost(step, arg(step))
  local declared_limits = limit_settings.next_args(step)
  local refusal = limit_settings.refuse(step, declared_limits)
  if refusal then return { refusal } end
  for _, one in ipairs(declared_limits) do limit_settings.write(step, one) end
  local kinds, answers = {}, {}
  for index = 1, number(step) do kinds[index] = arg(step) end
  local changes, replaced, announced = { set = {}, removed = {}, declared = {} }, {}, {}
  for index, before in ipairs(read_types(step, kinds)) do
    local kind, after, digest, by_handler = kinds[index], {}, next_args(step, 2)
    for _, field in ipairs(TYPE_FIELDS) do after[field] = arg(step) end
    answers[index] = before.digest == digest and '1' or ''
    if answers[index] == '1' then
      note_changes(changes, kind, before, after)
      replaced[#replaced + 1] = { kind = kind, before = before, after = after }
      if by_handler == '1' then
        append(changes.set, KEY.known, kind)
        append(changes.set, KEY.known, step.now_text)
      end
      if after.rules ~= before.rules or after.back_off ~= before.back_off then announced[#announced + 1] = kind end
    end
  end
  write_changes(step, changes)
  for _, one in ipairs(replaced) do apply(step, one.kind, one.before, one.after) end
  announce(step, announced)
  finish_step(step)
  return answers
end
