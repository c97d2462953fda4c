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

local function configure(step, changes, before, if_missing)
  local prefix = step.prefix
  local kind, may_be_new = arg(step), arg(step)
  local rules = before[KEY.rules][kind]
  local is_paused, limit, limit_by, group, group_by, max, per, rate_by =
    (rules or NEW_RULES):match('^(%d),(%d*),(%l),(%d*),(%l),(%d*),(%d*),(%l)$')
  local group_before, max_before = group, max

  local by_handler, handler = arg(step) == '1', {}
  handler.limit, handler.group, handler.max, handler.per, handler.back_off = next_args(step, 5)
  local schema, defaults, declared = next_args(step, 3)
  local new_limit, new_group, new_max, new_per, paused, ceilings = next_args(step, 6)
  local held_until = arg(step)
  local new_retention, handler_retention = next_args(step, 2)
  if not rules and may_be_new ~= '1' then return 'unknown' end
  local back_off = by_handler and before[KEY.back_off][kind]
  if back_off and if_missing then return 'ok' end
  if by_handler then
    write(changes, KEY.back_off, kind, handler.back_off)
    write(changes, KEY.schemas, kind, schema)
    write(changes, KEY.defaults, kind, defaults)
    write(changes, KEY.known, kind, step.now_text)
    if limit_by == 'h' then limit = handler.limit end
    if group_by == 'h' then group = handler.group end
    if rate_by == 'h' then
      max, per = handler.max, handler.per
    end
  end

  if declared == '1' then call('SADD', prefix .. KEY.declared, kind) end
  if declared == '0' then call('SREM', prefix .. KEY.declared, kind) end
  local function set(value, before, by)
    if value == '' then return before, by end
    return value == 'none' and '' or value, 'o'
  end
  limit, limit_by = set(new_limit, limit, limit_by)
  group, group_by = set(new_group, group, group_by)
  max, rate_by = set(new_max, max, rate_by)
  if new_per ~= '' then per = new_per end
  if paused ~= '' then is_paused = paused end
  if ceilings ~= '' then
    local all = cjson.decode(call('HGET', prefix .. KEY.ceilings, kind) or '{}')
    set_fields(all, ceilings)
    call('HSET', prefix .. KEY.ceilings, kind, cjson.encode(all))
  end

  if new_retention ~= '' or by_handler then
    retain(step, changes, kind, before[KEY.retention][kind], new_retention, handler_retention)
  end

  if max == '' then per = '' end
  if max == '' and max_before ~= '' then
    call('DEL', prefix .. KEY.starts .. kind)
    call('HDEL', prefix .. KEY.started, kind)
  end
  if group ~= group_before then
    if group ~= '' then group_permits.keep(step, kind) end
    for _, lane in ipairs(lanes_of_type(step, kind)) do
      for _, name in ipairs(call('HKEYS', prefix .. KEY.at_limit .. lane.name)) do end_at_limit(step, lane, name) end
    end
  end
  local changed = table.concat({ is_paused, limit, limit_by, group, group_by, max, per, rate_by }, ',')
  if changed ~= rules then
    write(changes, KEY.rules, kind, changed)
    before[KEY.rules][kind] = changed
    if rules then unpark(step, kind) end
  end
  if held_until ~= '' then
    if held_until == 'none' then
      call('HDEL', prefix .. KEY.rules, kind .. '/held')
    else
      call('HSET', prefix .. KEY.rules, kind .. '/held', held_until)
    end
    unpark(step, kind)
  end
  if changed ~= rules or (by_handler and back_off ~= handler.back_off) then
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
