-- Processes that wait for tasks: which are woken, and when. A part of turn.lua.
local waits = {}
do

-- Returns whether a type is limited until a known time.
function waits.end_by_time(limited) return limited == 'rate' or limited == 'hold' end

-- Returns when a hold and a rate allow the next start.
function waits.allowed_at(step, kind, rule)
  local prefix = step.prefix
  if rule.held_until then return rule.held_until end
  local sum = tonumber(call('HGET', prefix .. KEY.started, kind) or 0)
  for _, entry in ipairs(call('LRANGE', prefix .. KEY.starts .. kind, 0, -1)) do
    local time, starts = unpack_starts(entry)
    sum = sum - starts
    if sum < rule.rate_max then return time + rule.rate_per_ms end
  end
  return step.now
end

-- Wakes another process that waits for a type, if a lane of the type has a task.
function waits.pass_on(step, kind)
  local prefix = step.prefix
  local waiting, blocked = prefix .. KEY.waiting .. kind, prefix .. KEY.blocked .. kind
  if call('EXISTS', waiting, blocked, prefix .. KEY.waiting_typesets) == 0 then return end
  for _, lane in ipairs(lanes_of_type(step, kind)) do
    local in_groups = call('EXISTS', prefix .. KEY.rotation .. lane.name, prefix .. KEY.lone .. lane.name) > 0
    if in_groups or has_streams_of_groups(step, lane) or first_of(step, lane) then
      wake(step, kind, 1)
      free_permits(step, kind, 1)
      return
    end
  end
end

local function announce_due(step, due)
  if step.next_due == '' or due < step.next_due then step.next_due = due end
  broadcast(step, 'due ' .. due)
end

-- Registers the process until something is ready: a process that waits for a task is notified of a task, and a process
-- that waits for a permit is notified of a free permit.
function waits.register(step, turn, rules)
  local prefix = step.prefix
  if turn.typeset ~= '' then
    call('SADD', prefix .. KEY.waiting_for_typeset .. turn.typeset, step.process)
    call('SADD', prefix .. KEY.waiting_typesets, turn.typeset)
    step.may_have_rare = true
    local next_allowed = call('ZRANGEBYSCORE', prefix .. KEY.parked, '-inf', '(+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
    if next_allowed then announce_due(step, string.format('%d', next_allowed)) end
    return
  end
  for _, kind in ipairs(turn.types) do
    local rule = rules[kind]
    local blocked = rule and rule.limited ~= nil
    for lane in pairs(rule and rule.rotates or {}) do
      blocked = blocked or (lane.has_groups and call('EXISTS', prefix .. KEY.at_limit .. lane.name) == 1)
    end
    if blocked then call('SADD', prefix .. KEY.blocked .. kind, step.process) end
    if not blocked or not rule.limited then call('SADD', prefix .. KEY.waiting .. kind, step.process) end
    if rule and waits.end_by_time(rule.limited) then
      local until_ms = string.format('%d', waits.allowed_at(step, kind, rule))
      call('ZADD', prefix .. KEY.parked, until_ms, kind)
      announce_due(step, until_ms)
    end
  end
end

end
