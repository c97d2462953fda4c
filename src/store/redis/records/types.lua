-- The records of types; a part of the code that all steps share. registry.ts reads and writes them.
local read_types, type_values
local TYPE_FIELDS = { 'rules', 'held', 'back_off', 'schemas', 'defaults', 'ceilings', 'retention', 'declared', 'turns' }
-- The hash of each, by the type's name; `held` is in `rules` as well, and `declared` is a set.
local TYPE_KEYS = {
  rules = KEY.rules, back_off = KEY.back_off, schemas = KEY.schemas, defaults = KEY.defaults, ceilings = KEY.ceilings,
  retention = KEY.retention, turns = KEY.group_turns,
}
do

-- Sets a field of records, each to the value of the name in the same place.
local function read_field(records, field, command, key, names)
  for from = 1, #names, CHUNK do
    local to = math.min(from + CHUNK - 1, #names)
    for index, value in ipairs(call(command, key, unpack(names, from, to))) do
      records[from + index - 1][field] = value and tostring(value) or ''
    end
  end
end

-- Returns a record for each type, with the fields of TYPE_FIELDS, '' for each that is missing, and its digest: '' for a
-- type that does not exist.
function read_types(step, kinds)
  local prefix, records, held = step.prefix, {}, {}
  for index, kind in ipairs(kinds) do records[index], held[index] = {}, kind .. '/held' end
  for field, key in pairs(TYPE_KEYS) do read_field(records, field, 'HMGET', prefix .. key, kinds) end
  read_field(records, 'held', 'HMGET', prefix .. KEY.rules, held)
  read_field(records, 'declared', 'SMISMEMBER', prefix .. KEY.declared, kinds)
  for _, record in ipairs(records) do
    record.digest = record.rules == '' and '' or redis.sha1hex(table.concat(type_values(record), '\n'))
  end
  return records
end

-- Returns the values of a record in the order of TYPE_FIELDS.
function type_values(record)
  local values = {}
  for index, field in ipairs(TYPE_FIELDS) do values[index] = record[field] end
  return values
end

end
