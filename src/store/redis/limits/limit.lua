-- Replaces the settings of a named limit, if they are still those that the change was decided on (limit-record.ts).
--
-- KEYS  the partition's prefix
-- ARGV  now, '1' to refuse while an unfinished task uses it; 1, name, settings and hold before, the same after, '' for
--       none
-- Returns 'done' | 'changed' | 'too_many' | 'in_use'
-- Cost  about ten commands, and some for each lane that may start; a removal reads the limits of all unfinished tasks
function steps.limit(step)
  local must_be_unused, replacements = arg(step) == '1', limit_settings.next_args(step)
  local refusal = limit_settings.refuse(step, replacements)
  if refusal then return refusal end
  if must_be_unused and limit_settings.are_used(step, replacements[1].name) then return 'in_use' end
  limit_settings.write(step, replacements[1])
  finish_step(step)
  return 'done'
end
