-- How many tasks of its type run before a waiting one, counted to a bound.
--
-- ARGV  now, ref, bound
-- Returns the count
-- Cost  grows with the count
function steps.ahead()
  local ref, bound = arg(), number()
  local found, _, entry = find(ref)
  if found ~= 'W' then return 0 end
  local own = lane_by_ref(ref)
  local ahead = 0
  for digit in (call('HGET', P .. KEY.priorities, own.type) or ''):gmatch('%d') do
    local lane = open_lane(own.type, digit)
    local back = call('ZRANGE', lane.back, 0, -1)
    if digit > own.priority then
      ahead = ahead + #back + call('XLEN', lane.stream) - call('XPENDING', lane.stream, WORKERS)[1]
    elseif digit == own.priority then
      for _, other in ipairs(back) do
        if other < entry then ahead = ahead + 1 end
      end
      local groups = call('XINFO', 'GROUPS', lane.stream)[1]
      for index = 1, #groups, 2 do
        if groups[index] == 'last-delivered-id' then
          local last = groups[index + 1]
          if #last < 24 or last < entry then
            ahead = ahead + #call('XRANGE', lane.stream, '(' .. last, '(' .. entry, 'COUNT', bound)
          end
        end
      end
    end
  end
  return math.min(ahead, bound)
end
