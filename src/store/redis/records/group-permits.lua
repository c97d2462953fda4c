-- Permits of groups; a part of the code that all steps share. `held:<type>|<group>` has the leases of a group, for
-- types that have or had a limit of the group (`<type>/group_permits` in `rules`). It costs the others nothing.
local group_permits = {}

-- Returns whether the leases of a type are also kept by group. Only a type with a limit of the group needs them.
function group_permits.are_kept(step, kind)
  local kept = step.group_permits_kept[kind]
  if kept == nil then
    kept = call('HEXISTS', step.prefix .. KEY.rules, kind .. '/group_permits') == 1
    step.group_permits_kept[kind] = kept
  end
  return kept
end

-- Begins to keep the leases of a type by group. It runs before a limit of the group is checked for the first time.
function group_permits.keep(step, kind)
  local prefix = step.prefix
  if group_permits.are_kept(step, kind) then return end
  local refs, records_at_once = call('ZRANGE', prefix .. KEY.running .. kind, 0, -1), 100
  for from = 1, #refs, records_at_once do
    local to = math.min(from + records_at_once - 1, #refs)
    for index, record in ipairs(call('HMGET', prefix .. KEY.leases, unpack(refs, from, to))) do
      local _, group = labels_in(record and extras_of(record) or NO_EXTRAS)
      if group then call('SADD', prefix .. KEY.held .. kind .. '|' .. group, refs[from + index - 1]) end
    end
  end
  call('HSET', prefix .. KEY.rules, kind .. '/group_permits', '1')
  step.group_permits_kept[kind] = true
end
