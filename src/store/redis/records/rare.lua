-- Keys that seldom exist: of features that few stores use, and of work that is seldom there. A step that concerns one
-- task would ask for each of them; one command finds that none exists. A part of the code that all steps share.
local rare = {}

-- Sets `may_have_rare`, `may_be_due` and `may_have_readers` to false if the keys do not exist. What creates one of them
-- later in the step sets it to true again. Steps that do not call this ask for each key.
-- @param keys further keys, for which the caller asks only if `may_have_rare`
function rare.check(step, keys)
  local prefix, size = step.prefix, #keys
  keys[size + 1], keys[size + 2] = prefix .. KEY.again, prefix .. KEY.limits_parked
  keys[size + 3], keys[size + 4] = prefix .. KEY.parked, prefix .. KEY.awaited
  keys[size + 5] = prefix .. KEY.waiting_typesets
  keys[size + 6], keys[size + 7] = prefix .. KEY.group_turns, prefix .. KEY.retention
  keys[size + 8], keys[size + 9] = prefix .. KEY.due, prefix .. KEY.readers
  if call('EXISTS', unpack(keys)) == 0 then
    step.may_have_rare, step.may_be_due, step.may_have_readers = false, false, false
  else
    -- Delayed tasks and readers of events are common.
    step.may_have_rare = call('EXISTS', unpack(keys, 1, size + 7)) > 0
  end
end
