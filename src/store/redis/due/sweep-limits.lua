-- Checks named limits; a part of sweep.lua.

-- Leases of a limit that one sweep compares, and limits for which lanes wait that it opens if they have room.
local LEASES_AT_ONCE, LIMITS_AT_ONCE = 20, 10

-- Returns the units of leases that no longer exist: a process of the previous version ends a lease without that.
local function verify_units(step, name)
  local prefix = step.prefix
  local using = prefix .. KEY.using .. name
  local found = call('HRANDFIELD', using, LEASES_AT_ONCE, 'WITHVALUES')
  local by_type, units, all = {}, {}, 0
  for index = 1, #found, 2 do
    local ref = found[index]
    units[ref], all = tonumber(found[index + 1]), all + found[index + 1]
    append(by_type, lane_by_ref(step, ref).type, ref)
  end
  local gone, freed = {}, 0
  for kind, refs in pairs(by_type) do
    for index, due in ipairs(call('ZMSCORE', prefix .. KEY.running .. kind, unpack(refs))) do
      if not due then gone[#gone + 1], freed = refs[index], freed + units[refs[index]] end
    end
  end
  many('HDEL', using, gone)
  -- These were all of its leases, so the sum is known.
  if #found < LEASES_AT_ONCE * 2 then freed = limits.in_use_of(step, name) - (all - freed) end
  if freed ~= 0 then limits.correct_units(step, name, -freed) end
end

-- Compares some limits with the leases, ends holds, and opens limits that have room.
local function check_limits(step, sweep)
  local prefix = step.prefix
  add(sweep, limits.reopen_due(step, sweep.max), sweep.max)
  local fields, over = next_fields(step, KEY.limits_now), {}
  -- A process of the previous version ends tasks without counting them: the numbers are right again when none is left.
  local is_idle = total(step, 'open') + step.opened == 0
  for index = 1, #fields, 2 do
    local what, name = fields[index]:sub(1, 1), fields[index]:sub(2)
    if what == '+' then verify_units(step, name) end
    if what == '@' and tonumber(fields[index + 1]) <= step.now then over[#over + 1] = fields[index] end
    if is_idle and (what == '#' or what == '~') then over[#over + 1] = fields[index] end
  end
  many('HDEL', prefix .. KEY.limits_now, over)
  if call('EXISTS', prefix .. KEY.limits_parked) == 0 then return end
  for _, name in ipairs(call('ZRANDMEMBER', prefix .. KEY.limits_parked, LIMITS_AT_ONCE)) do
    local kind, group = limits.group_in(name)
    if kind then group_permits.verify(step, kind, group) end
    limits.touch(step, name)
  end
end
