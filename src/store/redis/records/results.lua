-- What a step writes at its end: counts, events, wake-ups; a part of the code that all steps share.

local final = IS_FINAL
local function is_of_final(field) return final[field:match(':(%l+)$')] end

local function count(step, kind, status, change)
  local field = kind .. ':' .. status
  step.counts[field] = (step.counts[field] or 0) + change
end

-- Adds a record of events, a JSON array. One record may describe many tasks (event-records.ts).
local function event(step, tasks, json)
  step.events[#step.events + 1] = json
  step.event_count = step.event_count + tasks
end

-- Notifies up to `tasks` waiting processes that a type has a task to claim.
local function wake(step, kind, tasks) step.wakes[kind] = (step.wakes[kind] or 0) + tasks end

-- The same for a task that has become ready again.
local function wake_for(step, lane, ref)
  step.ready_again = step.ready_again or {}
  step.ready_again[ref] = true
  wake(step, lane.type, 1)
end

-- Notifies up to `permits` processes that are blocked by a limit of a type.
local function free_permits(step, kind, permits)
  if permits > 0 then step.permits_freed[kind] = (step.permits_freed[kind] or 0) + permits end
end

-- Sends a message to every process.
local function broadcast(step, message) step.broadcasts[#step.broadcasts + 1] = message end

-- The next sweep has something to do at a time that is earlier than known.
local function sweep_at(step, time)
  call('DEL', step.prefix .. KEY.rest)
  broadcast(step, 'due ' .. time)
end

-- Defined in groups.lua, and in limits.lua and limit-lanes.lua.
local write_arrivals
local limits = {}

local finish_step
do

-- Wakes processes that wait for a type as one of many types.
local function wake_of_typesets(step, kind, most)
  local prefix = step.prefix
  for _, id in ipairs(call('SMEMBERS', prefix .. KEY.waiting_typesets)) do
    if call('SISMEMBER', prefix .. KEY.typeset .. id, kind) == 1 then
      local process = call('SPOP', prefix .. KEY.waiting_for_typeset .. id)
      if not process then call('SREM', prefix .. KEY.waiting_typesets, id) end
      if process and (call('PUBLISH', CHANNEL.wake .. process, prefix .. ' ' .. kind) > 0 or CLUSTER) then
        most = most - 1
      end
      if most <= 0 then return end
    end
  end
end

local function wake_from(step, prefix, woken)
  local of_typesets = next(woken) and step.may_have_rare and call('EXISTS', step.prefix .. KEY.waiting_typesets) == 1
  for kind, most in pairs(woken) do
    if of_typesets and most > 0 then wake_of_typesets(step, kind, most) end
    while most > 0 do
      local process = call('SPOP', step.prefix .. prefix .. kind)
      if not process then break end
      -- A process that has ended does not receive it; in a cluster only the sweep can detect that.
      if call('PUBLISH', CHANNEL.wake .. process, step.prefix .. ' ' .. kind) > 0 or CLUSTER then most = most - 1 end
    end
  end
end

function finish_step(step)
  local prefix = step.prefix
  write_arrivals(step)
  if step.of_limits then limits.finish(step) end
  if step.clock_moved then call('SET', prefix .. KEY.clock, string.format('%d-%d', step.clock_ms, step.clock_n)) end
  local finished = 0
  for field, change in pairs(step.counts) do
    if change ~= 0 then call('HINCRBY', prefix .. KEY.counts, field, change) end
    if is_of_final(field) then finished = finished + change end
  end
  if finished ~= 0 then call('HINCRBY', prefix .. KEY.totals, 'finished', finished) end
  if step.opened ~= 0 then call('HINCRBY', prefix .. KEY.totals, 'open', step.opened) end
  outbox.write(step)
  wake_from(step, KEY.waiting, step.wakes)
  wake_from(step, KEY.blocked, step.permits_freed)
  for _, message in ipairs(step.broadcasts) do call('PUBLISH', CHANNEL.news, prefix .. ' ' .. message) end
end

end
