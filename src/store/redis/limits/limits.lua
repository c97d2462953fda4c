-- Reads the settings of named limits and of single groups.
--
-- KEYS  the partition's prefix
-- ARGV  now, number of names or '' for all, each
-- Returns for each its name, its settings, until when it is held, the settings for all keys that it is one of, and
--       until when these are held, '' for each that is missing; for all, in the order of the names
-- Cost  two commands for a thousand of them
function steps.limits(step)
  local most, names = arg(step), {}
  for index = 1, tonumber(most) or 0 do names[index] = arg(step) end
  if most == '' then
    names = call('HKEYS', step.prefix .. KEY.limits)
    table.sort(names)
  end
  local answers = {}
  for index, record in ipairs(limit_settings.read(step, names)) do answers[index] = { names[index], unpack(record) } end
  return answers
end
