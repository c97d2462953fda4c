-- The order of finished tasks: how long they are kept, and their places; a part of the code that all steps share.
--
-- `done:<status>` is a stream with a place for the tasks that ended in a status in one step: `t` the time, `r` their
-- refs, and `k` if their type has its own retention: `kept` then has the place with the time of its removal.

-- How long finished tasks are kept.
local retention = {}

-- Returns how long (ms) a task that ends in a status is kept if its type sets it, else nil. In a cluster, tasks of
-- other partitions may have begun to wait for the task; the messages about them arrive a few steps later, so it is kept
-- at least that long.
function retention.own_ms(step, kind, status)
  local own = step.retention_of_types[kind]
  if own == nil then
    local text = step.may_have_rare and call('HGET', step.prefix .. KEY.retention, kind)
    own = text and cjson.decode(text)
    step.retention_of_types[kind] = own
  end
  local kept = own and (own.set[status] or own.handler[status])
  return kept and math.max(kept, CLUSTER and 10000 or 0)
end

-- The same for an idempotency key; `ended_for` is the time since its task ended.
function retention.kept_ms(step, kind, status, ended_for)
  return math.max((retention.own_ms(step, kind, status) or step.retention_ms) - (ended_for or 0), 1)
end

local done = {}

-- Adds tasks that ended at a time to the order of their status, and to the order of removal.
-- @param own_ms how long they are kept if their type sets it
function done.add(step, status, ended_at, refs, own_ms)
  local stream, time = step.prefix .. KEY.done .. status, string.format('%d', ended_at)
  if not own_ms then return call('XADD', stream, '*', 't', time, 'r', refs) end
  local entry = call('XADD', stream, '*', 't', time, 'r', refs, 'k', 'own')
  call('ZADD', step.prefix .. KEY.kept, string.format('%d', ended_at + own_ms), status .. ' ' .. entry)
end

-- Returns {entry, ended_at, refs, has_own} of a place; nil for none. The time and the refs are texts.
function done.unpack(item)
  if not item then return nil end
  local _, ended_at, _, refs, own = unpack(item[2])
  return { entry = item[1], ended_at = ended_at, refs = refs, has_own = own == 'k' }
end

function done.refs_of(place)
  local refs = {}
  for ref in place.refs:gmatch('%S+') do refs[#refs + 1] = ref end
  return refs
end

function done.is_before(entry, other)
  local ms, n = entry:match('^(%d+)-(%d+)$')
  local other_ms, other_n = other:match('^(%d+)-(%d+)$')
  if ms ~= other_ms then return tonumber(ms) < tonumber(other_ms) end
  return tonumber(n) < tonumber(other_n)
end

-- A place in the order of a status is valid for a task only if the task has not been returned to pending since; a task
-- that ended again in that status has another place.
function done.note_taken_back(step, ref, status)
  local last = call('XREVRANGE', step.prefix .. KEY.done .. status, '+', '-', 'COUNT', 1)[1]
  if last then call('HSET', step.prefix .. KEY.taken_back, ref .. ' ' .. status, last[1]) end
end
function done.is_its_place(step, ref, status, place, text)
  local its_status, ended_at = finished_state(text)
  if its_status ~= status or ended_at ~= place.ended_at then return false end
  local before = field_of(step, KEY.taken_back, ref .. ' ' .. status)
  return not before or done.is_before(before, place.entry)
end
