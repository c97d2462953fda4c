-- Keys that seldom exist: of features that few stores use, and of work that is seldom there. A step that concerns one
-- task would ask for each of them; one command finds that none exists. A part of the code that all steps share.
local rare = {}

-- Sets `may_have_rare`, `may_be_due` and `may_have_readers` to false if the keys do not exist. What creates one of them
-- later in the step sets it to true again. Steps that do not call this ask for each key.
-- @param keys further keys, for which the caller asks only if `may_have_rare`
function rare.check(step, keys)
  local prefix = step.prefix
  for _, name in ipairs({
    KEY.again, KEY.limits_parked, KEY.parked, KEY.awaited, KEY.group_turns, KEY.retention, KEY.waiting_typesets,
  }) do
    keys[#keys + 1] = prefix .. name
  end
  local seldom = #keys
  keys[seldom + 1], keys[seldom + 2] = prefix .. KEY.due, prefix .. KEY.readers
  if call('EXISTS', unpack(keys)) == 0 then
    step.may_have_rare, step.may_be_due, step.may_have_readers = false, false, false
  else
    -- Delayed tasks and readers of events are common.
    step.may_have_rare = call('EXISTS', unpack(keys, 1, seldom)) > 0
  end
end
