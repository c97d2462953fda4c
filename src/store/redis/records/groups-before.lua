-- Groups of the first version with groups; a part of the code that all steps share.
--
-- It kept a stream with a consumer group for each group, and may still run beside this version. Claims and sweeps take
-- over the tasks that wait there, in their order; leased tasks stay there until their lease ends.
local adopt_group, adopt_groups, leave_streams_of_groups, has_streams_of_groups, recheck_limits
do

local ADOPTED_MAX, GROUPS_MAX = 500, 100
-- Groups at their limit of which a sweep verifies permits.
local GROUPS_VERIFIED = 5

local function adopt_entry(step, part, stream, item, again)
  local prefix = step.prefix
  local entry = item[1]
  local head_text, payload, extras, error = unpack_entry(item[2])
  if again then head_text, error = unpack_again(again) end
  local ref = unpack_head(head_text, part, entry).ref
  local text = pack_task(head_text, extras or NO_EXTRAS, payload, error or 'null')
  arrive(step, part.lane, part.group, entry, text, nil, nil, true)
  count(step, part.type, 'grouped', -1)
  if ref == part.no .. '.' .. entry then
    call('HDEL', prefix .. KEY.moved, ref)
  else
    call('HSET', prefix .. KEY.moved, ref, entry)
  end
  call('XACK', stream, WORKERS, entry)
  call('XDEL', stream, entry)
end

-- Takes over up to `most` tasks that wait in the stream of a group; returns the number.
function adopt_group(step, part, most)
  local prefix = step.prefix
  local name = part.name .. '|' .. part.group
  local stream, back = prefix .. KEY.group_stream .. name, prefix .. KEY.back .. name
  if call('EXISTS', stream) == 0 then return 0 end
  local adopted = 0
  for _, entry in ipairs(call('ZRANGE', back, 0, most - 1)) do
    local item, field = call('XRANGE', stream, entry, entry)[1], part.no .. '.' .. entry
    local again = call('HGET', prefix .. KEY.again, field)
    if item and again then adopt_entry(step, part, stream, item, again) end
    call('HDEL', prefix .. KEY.again, field)
    call('ZREM', back, entry)
    adopted = adopted + 1
  end
  local last = last_handed_out({ stream = stream })
  for _, item in ipairs(call('XRANGE', stream, '(' .. last, '+', 'COUNT', math.max(most - adopted, 1))) do
    adopt_entry(step, part, stream, item)
    adopted = adopted + 1
  end
  if call('XLEN', stream) == 0 then call('DEL', stream) end
  return adopted
end

function has_streams_of_groups(step, lane)
  local prefix = step.prefix
  local name = lane.name
  return call('EXISTS', prefix .. KEY.ring .. name, prefix .. KEY.aside .. name, prefix .. KEY.served .. name) > 0
end

-- A process of that version does not notify the groups in `at_limit` when it frees a permit.
function recheck_limits(step, lane)
  local prefix = step.prefix
  local groups = call('HRANDFIELD', prefix .. KEY.at_limit .. lane.name, GROUPS_MAX)
  if #groups == 0 then return end
  local common = tonumber(unpack_rules(call('HGET', prefix .. KEY.rules, lane.type) or '').group_limit)
  local checked, has_limits = 0, limits.are_in_groups(step, lane)
  for _, group in ipairs(groups) do
    if limits.are_used(group) then
      limits.recheck_group(step, lane, group)
    else
      local limit, permits = group_permits.limit_of(step, lane.type, group, common),
        group_permits.key_of(step, lane.type, group)
      if has_limits and checked < GROUPS_VERIFIED then
        checked = checked + 1
        group_permits.verify(step, lane.type, group)
      end
      if not limit or call('SCARD', permits) < limit then end_at_limit(step, lane, group) end
    end
  end
end

-- Takes over groups of a lane; returns whether there are more.
function adopt_groups(step, lane)
  local prefix = step.prefix
  local name = lane.name
  local ring, aside, served = prefix .. KEY.ring .. name, prefix .. KEY.aside .. name, prefix .. KEY.served .. name
  local members, left = call('ZRANGE', ring, 0, GROUPS_MAX - 1), ADOPTED_MAX
  local is_in_ring = #members > 0
  if not is_in_ring then members = call('SRANDMEMBER', aside, GROUPS_MAX) end
  local last_position = call('GET', prefix .. KEY.ring_clock .. name)
  if last_position and tonumber(last_position) > tonumber(call('GET', prefix .. KEY.rotation_clock .. name) or 0) then
    call('SET', prefix .. KEY.rotation_clock .. lane.name, last_position)
  end
  local taken_out = {}
  for _, group in ipairs(members) do
    local adopted = 0
    if group ~= '' then lone.leave(step, group_lane(lane, group)) end
    local position, place = call('HGET', served, group), call('ZSCORE', prefix .. KEY.rotation .. lane.name, group)
    if position and not place then call('HSETNX', prefix .. KEY.rested .. lane.name, group, position) end
    -- A group that is new here has waited longer there.
    if place and tonumber(place) < 0 and group ~= '' then
      local part = group_lane(lane, group)
      leave_rotation(step, part, entries_of(step, part, 1)[1])
      taken_out[#taken_out + 1] = part
      call('SADD', prefix .. KEY.crowded .. lane.name, group)
    end
    if group ~= '' then adopted = adopt_group(step, group_lane(lane, group), left) end
    left = left - adopted
    if left <= 0 then break end
    call('ZREM', ring, group)
    call('SREM', aside, group)
  end
  write_arrivals(step)
  for _, part in ipairs(taken_out) do
    local first = first_of(step, part)
    if first then join_one(step, part, first) end
  end
  recheck_limits(step, lane)
  if call('EXISTS', ring, aside) > 0 then return true end
  call('DEL', prefix .. KEY.ring_clock .. name, prefix .. KEY.newcomers .. name, prefix .. KEY.idle .. name)
  -- A group that has leases of that version stays in `served`, which `leave_streams_of_groups` reads.
  for _, group in ipairs(call('HRANDFIELD', served, GROUPS_MAX)) do
    if call('EXISTS', prefix .. KEY.group_stream .. lane.name .. '|' .. group) == 0 then call('HDEL', served, group) end
  end
  return false
end

-- Leases of groups of a lane have ended: deletes the entries that that version has handed out, (group, entry) each.
function leave_streams_of_groups(step, lane, left)
  local prefix = step.prefix
  if call('EXISTS', prefix .. KEY.served .. lane.name) == 0 then return end
  for index = 1, #left, 2 do
    local stream, entry = prefix .. KEY.group_stream .. lane.name .. '|' .. left[index], left[index + 1]
    if call('EXISTS', stream) == 1 then
      if call('XDEL', stream, entry) == 1 then call('XACK', stream, WORKERS, entry) end
      if call('XLEN', stream) == 0 then call('DEL', stream) end
    end
  end
end

end
