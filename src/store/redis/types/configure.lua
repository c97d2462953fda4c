-- Declares types or changes them.
--
-- KEYS  the partition's prefix
-- ARGV  now, '1' from a process that has used the store before, '1' to leave types unchanged that a handler has
--       declared before, number of types, the name of each; then for each: type, '1' if it may be new; '1' if a handler
--       declares it or '', then the handler's limit, limit of a group, rate's max and window (ms), each may be '',
--       back-off `jitter,delay,delay…`, payload schema or '', defaults; declared '' | '0' | '1'; limit, limit of a
--       group, rate's max: '' (unchanged) | 'none' | number; the rate's window; paused '' | '0' | '1'; ceilings to set
--       as JSON, null for none, or ''; held until, 'none' or '' (unchanged);
--       retention in the same form; the handler's retention as JSON
-- Returns for each type 'ok', or 'unknown' if the type does not exist
-- Cost  two commands for each field of all types together, and several for each type whose limits change
local TYPES_PER_MESSAGE = 500

-- Reads the stored values of all types, by field, in the order of the call; each is read once.
local function read_before(step, kinds)
  local before = {}
  for _, key in ipairs({ KEY.rules, KEY.back_off, KEY.retention }) do
    before[key] = {}
    for from = 1, #kinds, CHUNK do
      local to = math.min(from + CHUNK - 1, #kinds)
      for index, value in ipairs(call('HMGET', step.prefix .. key, unpack(kinds, from, to))) do
        before[key][kinds[from + index - 1]] = value
      end
    end
  end
  return before
end

local function write(changes, key, kind, value)
  append(changes.written, key, kind)
  append(changes.written, key, value)
end

local function set_fields(all, change)
  for field, value in pairs(cjson.decode(change)) do all[field] = value ~= cjson.null and value or nil end
end

local function retain(step, changes, kind, stored, set, of_handler)
  local kept = stored and cjson.decode(stored) or { set = {}, handler = {} }
  if set ~= '' then set_fields(kept.set, set) end
  if of_handler ~= '' then kept.handler = cjson.decode(of_handler) end
  if next(kept.set) or next(kept.handler) then
    write(changes, KEY.retention, kind, cjson.encode(kept))
  elseif stored then
    call('HDEL', step.prefix .. KEY.retention, kind)
  end
end

-- A change of an operator: '' leaves the value and its source unchanged.
local function set_limit(rules, field, source, value)
  if value ~= '' then rules[field], rules[source] = value == 'none' and '' or value, 'o' end
end

-- Applies the rules that a handler declares, where no operator has set another.
local function apply_handler(rules, handler)
  if rules.limit_by == 'h' then rules.limit = handler.limit end
  if rules.group_limit_by == 'h' then rules.group_limit = handler.group_limit end
  if rules.rate_by == 'h' then rules.rate_max, rules.rate_per_ms = handler.rate_max, handler.rate_per_ms end
end

-- Reads one change. `rate_per_ms` and `paused` have no source of their own.
local function read_change(step)
  local change, handler = { type = arg(step), may_be_new = arg(step) == '1', by_handler = arg(step) == '1' }, {}
  handler.limit, handler.group_limit, handler.rate_max, handler.rate_per_ms, handler.back_off = next_args(step, 5)
  handler.schema, handler.defaults = next_args(step, 2)
  change.handler, change.declared = handler, arg(step)
  change.limit, change.group_limit, change.rate_max, change.rate_per_ms, change.paused = next_args(step, 5)
  change.ceilings, change.held_until, change.retention, handler.retention = next_args(step, 4)
  return change
end

-- Starts that no longer count, and groups at a limit that has changed.
local function apply_to_tasks(step, kind, rules, before)
  local prefix = step.prefix
  if rules.rate_max == '' and before.rate_max ~= '' then
    call('DEL', prefix .. KEY.starts .. kind)
    call('HDEL', prefix .. KEY.started, kind)
  end
  if rules.group_limit == before.group_limit then return end
  if rules.group_limit ~= '' then group_permits.keep(step, kind) end
  for _, lane in ipairs(lanes_of_type(step, kind)) do
    for _, group in ipairs(call('HKEYS', prefix .. KEY.at_limit .. lane.name)) do end_at_limit(step, lane, group) end
  end
end

local function set_ceilings(step, kind, ceilings)
  local all = cjson.decode(call('HGET', step.prefix .. KEY.ceilings, kind) or '{}')
  set_fields(all, ceilings)
  call('HSET', step.prefix .. KEY.ceilings, kind, cjson.encode(all))
end

local function set_hold(step, kind, held_until)
  local rules, field = step.prefix .. KEY.rules, kind .. '/held'
  if held_until == 'none' then call('HDEL', rules, field) else call('HSET', rules, field, held_until) end
  unpark(step, kind)
end

local function configure(step, changes, before, if_missing)
  local change = read_change(step)
  local kind, handler = change.type, change.handler
  local stored = before[KEY.rules][kind]
  if not stored and not change.may_be_new then return 'unknown' end
  local back_off = change.by_handler and before[KEY.back_off][kind]
  if back_off and if_missing then return 'ok' end
  local rules, rules_before = unpack_rules(stored or NEW_RULES), unpack_rules(stored or NEW_RULES)
  if change.by_handler then
    write(changes, KEY.back_off, kind, handler.back_off)
    write(changes, KEY.schemas, kind, handler.schema)
    write(changes, KEY.defaults, kind, handler.defaults)
    write(changes, KEY.known, kind, step.now_text)
    apply_handler(rules, handler)
  end
  if change.declared == '1' then call('SADD', step.prefix .. KEY.declared, kind) end
  if change.declared == '0' then call('SREM', step.prefix .. KEY.declared, kind) end
  set_limit(rules, 'limit', 'limit_by', change.limit)
  set_limit(rules, 'group_limit', 'group_limit_by', change.group_limit)
  set_limit(rules, 'rate_max', 'rate_by', change.rate_max)
  if change.rate_per_ms ~= '' then rules.rate_per_ms = change.rate_per_ms end
  if change.paused ~= '' then rules.paused = change.paused end
  if rules.rate_max == '' then rules.rate_per_ms = '' end
  if change.ceilings ~= '' then set_ceilings(step, kind, change.ceilings) end
  if change.retention ~= '' or change.by_handler then
    retain(step, changes, kind, before[KEY.retention][kind], change.retention, handler.retention)
  end
  apply_to_tasks(step, kind, rules, rules_before)
  local changed = pack_rules(rules)
  if changed ~= stored then
    write(changes, KEY.rules, kind, changed)
    before[KEY.rules][kind] = changed
    if stored then unpark(step, kind) end
  end
  if change.held_until ~= '' then set_hold(step, kind, change.held_until) end
  if changed ~= stored or (change.by_handler and back_off ~= handler.back_off) then
    changes.kinds[#changes.kinds + 1] = kind
  end
  return 'ok'
end

function steps.configure(step)
  has_lost(step, arg(step))
  local if_missing, count, kinds, answers = arg(step) == '1', number(step), {}, {}
  for index = 1, count do kinds[index] = arg(step) end
  -- Values to write by key, and the types whose rules or back-off change.
  local changes = { written = {}, kinds = {} }
  local before = read_before(step, kinds)
  for index = 1, count do answers[index] = configure(step, changes, before, if_missing) end
  for key, values in pairs(changes.written) do many('HSET', step.prefix .. key, values) end
  -- The previous version accepts only one type in a message.
  if #changes.kinds == 1 then
    broadcast(step, 'type ' .. changes.kinds[1])
  else
    for from = 1, #changes.kinds, TYPES_PER_MESSAGE do
      local to = math.min(from + TYPES_PER_MESSAGE - 1, #changes.kinds)
      broadcast(step, 'types ' .. table.concat(changes.kinds, ' ', from, to))
    end
  end
  finish_step(step)
  return answers
end
