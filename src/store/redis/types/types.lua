-- Reads the records of types.
--
-- KEYS  the partition's prefix
-- ARGV  now, number of types, each
-- Returns per type {digest or '' if it does not exist, the values of TYPE_FIELDS}
-- Cost  nine commands for all types together
function steps.types(step)
  local kinds, answers = {}, {}
  for index = 1, number(step) do kinds[index] = arg(step) end
  for index, record in ipairs(read_types(step, kinds)) do answers[index] = { record.digest, type_values(record) } end
  return answers
end
