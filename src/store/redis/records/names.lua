-- Names of tasks; a part of the code that all steps share. A name is valid in all partitions: `<partition>/<ref>`.

local id_of, name_of, place_of, by_age, ref_of_age
do

local function imul(a, b)
  a, b = a % 4294967296, b % 4294967296
  local high, low = math.floor(a / 65536), a % 65536
  return bit.tobit(((high * (b % 65536) + low * math.floor(b / 65536)) % 65536) * 65536 + low * (b % 65536))
end

-- Returns the id of a task from its name (ids.ts).
function id_of(name)
  local partition, lane, ms, n = name:match('^(%d+)/(%d+)%.(%d+)-(%d+)$')
  partition, lane, ms, n = tonumber(partition), tonumber(lane), tonumber(ms), n - 1e9
  local mixed = bit.bxor(imul(ms, 0x9e3779b1), imul(n + 1, 0x85ebca77), imul(lane + 1, 0xc2b2ae3d))
  mixed = bit.bxor(mixed, bit.rshift(mixed, 15), partition)
  mixed = bit.bxor(imul(mixed, 0x27d4eb2f), math.floor(ms / 4294967296))
  local check = bit.band(bit.bxor(mixed, bit.rshift(mixed, 13)), 0xffffff)
  local hex = function(digits, value)
    local high = math.floor(value / 16777216)
    return (string.format('%06x%06x', high, value - high * 16777216)):sub(-digits)
  end
  local time, number = hex(12, ms), hex(6, n)
  return table.concat({
    time:sub(1, 8), time:sub(9), '7' .. number:sub(1, 3), '8' .. number:sub(4),
    hex(6, lane * 256 + partition) .. hex(6, check),
  }, '-')
end

function name_of(step, ref) return step.partition .. '/' .. ref end

-- Returns whether a name belongs to this partition, and its ref.
function place_of(step, name)
  local partition, ref = name:match('^(%d+)/(.*)$')
  return partition == step.partition, ref
end

-- Reverses a ref so that it sorts by the time of submission; and back.
function by_age(ref) return (ref:gsub('^(%d+)%.(.*)$', '%2.%1')) end
function ref_of_age(place) return (place:gsub('^(.*)%.(%d+)$', '%2.%1')) end

end
