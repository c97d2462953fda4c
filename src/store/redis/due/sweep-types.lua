-- Checks types and their lanes: leases that are due, and lanes that do not run; a part of sweep.lua.

-- Deletes the positions of groups that have no task waiting; the position of tasks without a group is kept.
local function clear_rested(step, lane, is_idle)
  if shared_time.is_of(step, lane.type) then return shared_time.tidy(step, lane, is_idle) end
  local rested = step.prefix .. KEY.rested .. lane.name
  local alone = call('HGET', rested, '')
  call('UNLINK', rested)
  if alone then call('HSET', rested, '', alone) end
end

-- Collects the leases of a type that are due; the caller decides on them.
local function read_due_leases(step, sweep, kind, leases)
  local prefix = step.prefix
  local running = prefix .. KEY.running .. kind
  local refs = call('ZRANGEBYSCORE', running, '-inf', step.now_text, 'LIMIT', 0, sweep.max)
  if #refs > 0 then
    local records = call('HMGET', prefix .. KEY.leases, unpack(refs))
    for index, ref in ipairs(refs) do
      local record = records[index]
      if record then leases[#leases + 1] = { ref, lane_by_ref(step, ref).name, first_line(record) } end
    end
    if #refs >= sweep.max then sweep.more = true end
  end
  local first = call('ZRANGE', running, 0, 0, 'WITHSCORES')
  if first[1] then
    call('ZADD', prefix .. KEY.leases_due, first[2], kind)
  else
    call('ZREM', prefix .. KEY.leases_due, kind)
  end
end

-- Corrects lanes that a lost message, or a process of the previous version, keeps from running.
local function repair_lanes(step, sweep, kind, rules)
  local prefix = step.prefix
  local waiting = tonumber(call('HGET', prefix .. KEY.counts, kind .. ':grouped') or 0)
  local lanes_here = lanes_of_type(step, kind)
  for _, lane in ipairs(lanes_here) do
    waiting = waiting + count_waiting_in(lane)
    if has_streams_of_groups(step, lane) and adopt_groups(step, lane) then sweep.more = true end
    recheck_limits(step, lane)
    limits.tidy_lanes(step, lane)
  end
  local running = call('ZCARD', prefix .. KEY.running .. kind)
  for _, lane in ipairs(lanes_here) do
    local has_rested = call('EXISTS', prefix .. KEY.rested .. lane.name, prefix .. KEY.paces .. lane.name) > 0
    if has_rested then clear_rested(step, lane, waiting + running == 0) end
  end
  if rules.group_limit ~= '' then group_permits.keep(step, kind) end
  local parked_until = call('ZSCORE', prefix .. KEY.parked, kind)
  local may_start = rules.paused == '0' and (rules.limit == '' or running < tonumber(rules.limit))
  if parked_until == 'inf' and may_start then unpark(step, kind) end
  for _, lane in ipairs(lanes_here) do
    local entry = call('HGET', prefix .. KEY.ready_lanes, lane.name)
    if waiting == 0 and entry then place_lane(step, lane, nil, entry) end
    if waiting > 0 and not entry and not parked_until then note_ready(step, lane, ANY_ENTRY) end
  end
  if waiting > 0 then
    wake(step, kind, 1)
    free_permits(step, kind, 1)
  end
end

local function check_types(step, sweep, leases)
  local prefix = step.prefix
  local checked, kinds = {}, {}
  local fields, is_last, is_first = next_fields(step, KEY.rules)
  rest.note_round(step, is_first, is_last)
  for index = 1, #fields, 2 do
    local kind = fields[index]
    if not kind:find('/', 1, true) then
      checked[kind], kinds[#kinds + 1] = true, kind
      read_due_leases(step, sweep, kind, leases)
      repair_lanes(step, sweep, kind, unpack_rules(fields[index + 1]))
    end
  end
  forget_types(step, sweep, kinds, sweep.type_ttl)
  local function due_kinds(key)
    return call('ZRANGEBYSCORE', prefix .. key, '-inf', step.now_text, 'LIMIT', 0, sweep.max)
  end
  for _, kind in ipairs(due_kinds(KEY.leases_due)) do
    if not checked[kind] then read_due_leases(step, sweep, kind, leases) end
  end
  for _, kind in ipairs(due_kinds(KEY.parked)) do unpark(step, kind) end
  soonest(sweep, tonumber(call('ZRANGE', prefix .. KEY.leases_due, 0, 0, 'WITHSCORES')[2]))
  soonest(sweep, tonumber(call('ZRANGEBYSCORE', prefix .. KEY.parked, '-inf', '(+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]))
end
