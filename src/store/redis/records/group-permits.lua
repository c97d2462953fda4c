-- Permits of groups; a part of the code that all steps share. `held:<type>|<group>` has the leases of a group, for
-- types that have or had a limit of the group (`<type>/group_permits` in `rules`: '2' if a group has or had a limit of
-- its own, which is in `limits`). It costs the others nothing.
local group_permits = {}

-- Returns whether the leases of a type are also kept by group. Only a type with a limit of the group needs them.
function group_permits.are_kept(step, kind)
  local kept = step.group_permits_kept[kind]
  if kept == nil then
    kept = call('HGET', step.prefix .. KEY.rules, kind .. '/group_permits')
    step.group_permits_kept[kind] = kept
  end
  return kept ~= false
end

-- Returns whether a group may have a limit of its own.
function group_permits.have_own(step, kind)
  return group_permits.are_kept(step, kind) and step.group_permits_kept[kind] == '2'
end

-- Returns the limit of the group of a lane, nil for none; `common` is that of the type.
function group_permits.limit_of(step, kind, member, common)
  local group = limits.group_of(member)
  if group == '' then return nil end
  if not group_permits.have_own(step, kind) then return common end
  local own = call('HGET', step.prefix .. KEY.limits, limits.of_group(kind, group))
  if not own then return common end
  return limits.unpack(own).max
end

-- Returns the key of the leases of the group of a lane.
function group_permits.key_of(step, kind, member)
  return step.prefix .. KEY.held .. kind .. '|' .. limits.group_of(member)
end

-- Adds a lease of a lane to those of its group, if it has one.
function group_permits.take(step, kind, member, ref)
  if limits.group_of(member) ~= '' then call('SADD', group_permits.key_of(step, kind, member), ref) end
end

-- Releases permits of a group whose leases no longer exist: a process of the previous version ends leases of tasks that
-- use limits without that.
function group_permits.verify(step, kind, group)
  local permits, permits_at_once = group_permits.key_of(step, kind, group), 20
  local refs = call('SRANDMEMBER', permits, permits_at_once)
  if not refs[1] then return end
  local gone = {}
  for index, due in ipairs(call('ZMSCORE', step.prefix .. KEY.running .. kind, unpack(refs))) do
    if not due then gone[#gone + 1] = refs[index] end
  end
  many('SREM', permits, gone)
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
      if group then group_permits.take(step, kind, group, refs[from + index - 1]) end
    end
  end
  call('HSET', prefix .. KEY.rules, kind .. '/group_permits', '1')
  step.group_permits_kept[kind] = '1'
end
