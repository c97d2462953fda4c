-- The bounds and the counters of a sweep, and the removal of finished tasks. A part of sweep.lua.

-- What a sweep has changed; a bound that was reached means that there is more.
local function add(sweep, done, bound)
  sweep.changed = sweep.changed + done
  if done >= bound then sweep.more = true end
end
local function soonest(sweep, time)
  if time and time < sweep.next_at then sweep.next_at = time end
end

-- Finished tasks are removed when their retention ends, one place at a time: the tasks that finished in one step. If
-- there are too many, those that would be removed first are removed at once. `kept` has the times of tasks with their
-- own retention. The others are removed by age; `kept_passed` has the entry of each status up to which all places are
-- in `kept` or removed.
local PASSED_MAX = 1000
local function oldest_of(step, sweep, status)
  local prefix = step.prefix
  local stream, from = prefix .. KEY.done .. status, call('HGET', prefix .. KEY.kept_passed, status)
  local function next_place()
    return done.unpack(call('XRANGE', stream, from and '(' .. from or '-', '+', 'COUNT', 1)[1])
  end
  local place, passed = next_place(), 0
  while place and place.has_own and passed < PASSED_MAX do
    from, passed = place.entry, passed + 1
    place = next_place()
  end
  if passed > 0 then call('HSET', prefix .. KEY.kept_passed, status, from) end
  if not place then return nil end
  if place.has_own then
    sweep.more = true
    return nil
  end
  return { place = place, status = status, remove_at = tonumber(place.ended_at) + step.retention_ms }
end

local function soonest_kept(step)
  local prefix = step.prefix
  local first = call('ZRANGE', prefix .. KEY.kept, 0, 0, 'WITHSCORES')
  if not first[1] then return nil end
  local status, entry = first[1]:match('^(%l+) (.*)$')
  local place = done.unpack(call('XRANGE', prefix .. KEY.done .. status, entry, entry)[1])
  return { place = place, status = status, remove_at = tonumber(first[2]), kept = first[1] }
end

local function is_removed_before(a, b)
  if a.remove_at ~= b.remove_at then return a.remove_at < b.remove_at end
  return not a.kept and not b.kept and done.is_before(a.place.entry, b.place.entry)
end

local function remove_expired(step, sweep)
  local prefix = step.prefix
  local kept = total(step, 'finished')
  local heads = { kept = soonest_kept(step) }
  for _, status in ipairs(FINAL_STATUSES) do heads[status] = oldest_of(step, sweep, status) end
  local removed = 0
  while true do
    local next_head
    for _, head in pairs(heads) do
      if not next_head or is_removed_before(head, next_head) then next_head = head end
    end
    if not next_head then return removed end
    local place, status = next_head.place, next_head.status
    local refs = place and done.refs_of(place) or {}
    if kept - sweep.retention_count < #refs and next_head.remove_at > step.now then
      soonest(sweep, next_head.remove_at)
      return removed
    end
    if removed >= sweep.max then return math.max(removed, sweep.max) end
    for _, ref in ipairs(refs) do
      local text = call('GET', prefix .. KEY.finished .. ref)
      -- A task that was returned to pending and ended again has a later place.
      if text and done.is_its_place(step, ref, status, place, text) then
        if not remove_finished(step, ref, text) then return sweep.max end
        kept = kept - 1
      end
      removed = removed + 1
    end
    if place then call('XDEL', prefix .. KEY.done .. status, place.entry) end
    if next_head.kept then
      call('ZREM', prefix .. KEY.kept, next_head.kept)
      heads.kept = soonest_kept(step)
    else
      heads[status] = oldest_of(step, sweep, status)
    end
  end
end
