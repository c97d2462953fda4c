-- Keys that seldom exist: of features that few stores use, and of work that is seldom there. A step that concerns one
-- task would ask for each of them; one command finds that none exists. A part of the code that all steps share.
local rare = {}

-- Sets `may_have_rare` to false if none of the keys exists. What creates one of them later in the step sets it to true
-- again. A step that does not call this asks for each key. Sets `has_readers`, because events are common to all steps.
-- @param keys further keys, for which the caller asks only if `may_have_rare`
function rare.check(step, keys)
  local prefix, size = step.prefix, #keys
  keys[size + 1], keys[size + 2] = prefix .. KEY.again, prefix .. KEY.limits_parked
  keys[size + 3], keys[size + 4] = prefix .. KEY.parked, prefix .. KEY.awaited
  keys[size + 5] = prefix .. KEY.waiting_typesets
  keys[size + 6], keys[size + 7] = prefix .. KEY.group_turns, prefix .. KEY.retention
  -- A key that is named several times counts as many times: this one counts more than all others together.
  local seldom, readers = size + 7, prefix .. KEY.readers
  for place = seldom + 1, 2 * seldom + 1 do keys[place] = readers end
  local found = call('EXISTS', unpack(keys))
  step.has_readers = found > seldom
  step.may_have_rare = found % (seldom + 1) > 0
end
