-- Reads the figures of a type over time.
--
-- KEYS  the partition's prefix
-- ARGV  now, name of the ring, number of the first slot, of the last one, type or '' for all
-- Returns the number and the figures of each slot that has any (types/history.lua)
-- Cost  one look-up a slot, at most 360
function steps.history_of(step)
  local key, found = step.prefix .. KEY.history .. arg(step) .. ':', {}
  local first, last, kind = number(step), number(step), arg(step)
  for slot = first, last do
    local text = call('HGET', key .. string.format('%d', slot), kind)
    if text then
      found[#found + 1] = slot
      found[#found + 1] = text
    end
  end
  return found
end
