-- Ends tasks that have waited too long for their first start; a part of sweep.lua.

-- The approximate number of fields of a hash that one sweep checks: a type has two in `rules`.
local FIELDS_AT_ONCE = 100

-- Returns the next fields of a hash and their values, in a cycle over many sweeps; and whether they are the last, and
-- the first ones of a round.
local function next_fields(step, key)
  local prefix = step.prefix
  local from = call('HGET', prefix .. KEY.rounds, key) or '0'
  local found = call('HSCAN', prefix .. key, from, 'COUNT', FIELDS_AT_ONCE)
  if found[1] ~= from then call('HSET', prefix .. KEY.rounds, key, found[1]) end
  return found[2], found[1] == '0', from == '0'
end

-- Payloads are read with the entries, so the number is limited.
local ENTRIES_MAX = 100

-- Ends tasks that waited too long for their first start.
local function end_waits(step, sweep, lane, limit_ms, field, seen)
  local prefix = step.prefix
  local last = last_handed_out(lane)
  if #seen < 24 or last > seen then seen = last end
  local until_ms = string.format('%d', step.now - limit_ms)
  local bound = math.min(sweep.max, ENTRIES_MAX)
  local entries = {}
  if step.now - limit_ms >= tonumber(seen:match('^%d+')) then
    entries = call('XRANGE', lane.stream, '(' .. seen, until_ms, 'COUNT', bound)
  end
  local dead = {}
  for _, item in ipairs(entries) do
    local entry = item[1]
    seen = entry
    local head_text, payload, extras = unpack_entry(item[2])
    local head = unpack_head(head_text, lane, entry)
    if head.queue_timeout_ms == tostring(limit_ms) and head.started_at == '0' then
      dead[#dead + 1] = entry
      call('HDEL', prefix .. KEY.moved, head.ref)
      end_wait(step, lane, head, extras or NO_EXTRAS, payload)
    end
  end
  if #dead > 0 then call('XDEL', lane.stream, unpack(dead)) end
  if #entries > 0 then call('HSET', prefix .. KEY.waits, field, seen) end
  add(sweep, #entries == bound and sweep.max or #dead, sweep.max)
  local following = call('XRANGE', lane.stream, '(' .. seen, '+', 'COUNT', 1)[1]
  if following then
    call('ZADD', prefix .. KEY.waits_due, string.format('%d', following[1]:match('^%d+') + limit_ms), field)
  else
    call('HDEL', prefix .. KEY.waits, field)
    call('ZREM', prefix .. KEY.waits_due, field)
  end
end

-- Ends tasks in all lanes whose first task may have waited too long.
local function end_all_waits(step, sweep)
  local prefix = step.prefix
  local fields = next_fields(step, KEY.waits)
  for index = 1, #fields, 2 do call('ZADD', prefix .. KEY.waits_due, 'NX', '0', fields[index]) end
  local due = call('ZRANGEBYSCORE', prefix .. KEY.waits_due, '-inf', step.now_text, 'LIMIT', 0, sweep.max)
  for _, field in ipairs(due) do
    local no, limit = field:match('^(%d+):(%d+)$')
    local seen = call('HGET', prefix .. KEY.waits, field) or '0-0'
    end_waits(step, sweep, lane_by_ref(step, no .. '.0'), tonumber(limit), field, seen)
  end
  soonest(sweep, tonumber(call('ZRANGE', prefix .. KEY.waits_due, 0, 0, 'WITHSCORES')[2]))
end

-- The same for tasks of groups, which have their own list; it may still contain tasks that have started in the
-- meantime.
local function end_group_waits(step, sweep)
  local prefix = step.prefix
  local due = call('ZRANGEBYSCORE', prefix .. KEY.group_waits, '-inf', step.now_text, 'LIMIT', 0, sweep.max)
  for _, ref in ipairs(due) do
    local found, text, entry, lane = find(step, ref)
    if found == 'waiting' then
      local head_text, extras, payload = unpack_task(text)
      local head = unpack_head(head_text, lane, entry)
      local ends = wait_ends(head)
      if ends and ends <= step.now then
        leave_lane(step, lane, ref, entry)
        end_wait(step, lane, head, extras, payload)
      end
    end
  end
  if #due > 0 then many('ZREM', prefix .. KEY.group_waits, due) end
  add(sweep, #due, sweep.max)
  soonest(sweep, tonumber(call('ZRANGE', prefix .. KEY.group_waits, 0, 0, 'WITHSCORES')[2]))
end
