-- Permits of groups; a part of the code that all steps share. `held:<type>|<group>` has the leases of a group, for
-- types that have or had a limit of the group (`<type>/group_permits` in `rules`). It costs the others nothing.

-- Returns whether the leases of a type are also kept by group. Only a type with a limit of the group needs them.
function group_permits.are_kept(kind)
  local kept = group_permits.kept[kind]
  if kept == nil then
    kept = call('HEXISTS', P .. KEY.rules, kind .. '/group_permits') == 1
    group_permits.kept[kind] = kept
  end
  return kept
end

-- Begins to keep the leases of a type by group. It runs before a limit of the group is checked for the first time.
function group_permits.keep(kind)
  if group_permits.are_kept(kind) then return end
  local refs, records_at_once = call('ZRANGE', P .. KEY.running .. kind, 0, -1), 100
  for from = 1, #refs, records_at_once do
    local to = math.min(from + records_at_once - 1, #refs)
    for index, record in ipairs(call('HMGET', P .. KEY.leases, unpack(refs, from, to))) do
      local _, group = labels_in(record and record:match('\n([^\n]*)') or NO_EXTRAS)
      if group then call('SADD', P .. KEY.held .. kind .. '|' .. group, refs[from + index - 1]) end
    end
  end
  call('HSET', P .. KEY.rules, kind .. '/group_permits', '1')
  group_permits.kept[kind] = true
end
