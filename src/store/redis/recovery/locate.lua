-- Reads the places of tasks, and nothing else of them.
--
-- KEYS  the partition's prefix
-- ARGV  now, number of tasks, the ref of each
-- Returns per task the letter that `find` returns, or ''
-- Cost  one look-up for a finished task, up to five for another
function steps.locate()
  local answers = {}
  for index = 1, number() do
    local ref = arg()
    if call('EXISTS', P .. KEY.finished .. ref) == 1 then
      answers[index] = 'F'
    else
      answers[index] = find(ref) or ''
    end
  end
  return answers
end
