-- Adds to the statistics of the current slot.
--
-- KEYS  the partition's prefix
-- ARGV  now, number of the slot, number of fields, (field, count) each; a field is `<type> f` (finished),
--       `<type> w<bucket>` (wait) or `<type> r<bucket>` (run)
-- Returns 'ok'
-- Cost  one HINCRBY a field
local KEPT_S = 3600
function steps.rates(step)
  local slot = step.prefix .. KEY.rates .. arg(step)
  for _ = 1, number(step) do
    local field = arg(step)
    call('HINCRBY', slot, field, arg(step))
  end
  call('EXPIRE', slot, KEPT_S)
  return 'ok'
end
