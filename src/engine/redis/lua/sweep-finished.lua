-- What a sweep may do and has done, and how it removes finished tasks. The first part of sweep.lua.
local max, retention_count
local changed, more, next_at

local function add(done, bound)
  changed = changed + done
  if done >= bound then more = true end
end
local function soonest(time)
  if time and time < next_at then next_at = time end
end

-- Finished tasks go when their time has come, as they were finished together; where there are too many, those go that
-- would go first. That of those in `kept` is known; the others go by age, and are found behind what was passed.
local function is_before(a, b)
  local a_ms, a_n = a:match('^(%d+)-(%d+)$')
  local b_ms, b_n = b:match('^(%d+)-(%d+)$')
  if a_ms ~= b_ms then return tonumber(a_ms) < tonumber(b_ms) end
  return tonumber(a_n) < tonumber(b_n)
end

local FINAL = { 'success', 'failed', 'canceled', 'timeout' }
local PASSED_MAX = 1000
local function oldest_of(status)
  local stream, from = P .. KEY.done .. status, call('HGET', P .. KEY.kept_passed, status)
  local place = call('XRANGE', stream, from and '(' .. from or '-', '+', 'COUNT', 1)[1]
  local passed = 0
  while place and place[2][5] == 'k' and passed < PASSED_MAX do
    from, passed = place[1], passed + 1
    place = call('XRANGE', stream, '(' .. from, '+', 'COUNT', 1)[1]
  end
  if passed > 0 then call('HSET', P .. KEY.kept_passed, status, from) end
  if not place then return nil end
  if place[2][5] == 'k' then
    more = true
    return nil
  end
  return { place = place, status = status, goes_at = tonumber(place[2][2]) + retention_ms }
end

local function soonest_kept()
  local first = call('ZRANGE', P .. KEY.kept, 0, 0, 'WITHSCORES')
  if not first[1] then return nil end
  local status, entry = first[1]:match('^(%l+) (.*)$')
  local place = call('XRANGE', P .. KEY.done .. status, entry, entry)[1]
  return { place = place, status = status, goes_at = tonumber(first[2]), kept = first[1] }
end

local function goes_before(a, b)
  if a.goes_at ~= b.goes_at then return a.goes_at < b.goes_at end
  return not a.kept and not b.kept and is_before(a.place[1], b.place[1])
end

local function forget_finished()
  local kept = total('finished')
  local heads = { kept = soonest_kept() }
  for _, status in ipairs(FINAL) do heads[status] = oldest_of(status) end
  local forgotten = 0
  while true do
    local next_head
    for _, head in pairs(heads) do
      if not next_head or goes_before(head, next_head) then next_head = head end
    end
    if not next_head then return forgotten end
    local place, status, refs = next_head.place, next_head.status, {}
    for ref in (place and place[2][4] or ''):gmatch('%S+') do refs[#refs + 1] = ref end
    if kept - retention_count < #refs and next_head.goes_at > now then
      soonest(next_head.goes_at)
      return forgotten
    end
    if forgotten >= max then return math.max(forgotten, max) end
    for _, ref in ipairs(refs) do
      local text = call('GET', P .. KEY.finished .. ref)
      -- One that was taken back and has ended again stands further on.
      if text and is_its_place(ref, status, place, text) then
        if not remove_finished(ref, text) then return max end
        kept = kept - 1
      end
      forgotten = forgotten + 1
    end
    if place then call('XDEL', P .. KEY.done .. status, place[1]) end
    if next_head.kept then
      call('ZREM', P .. KEY.kept, next_head.kept)
      heads.kept = soonest_kept()
    else
      heads[status] = oldest_of(status)
    end
  end
end
