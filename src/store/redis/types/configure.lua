-- Declares types or changes them.
--
-- KEYS  the partition's prefix
-- ARGV  now, '1' from a process that has used the store before, '1' to leave types unchanged that a handler has
--       declared before, number of types, the name of each; then for each: type, '1' if it may be new; '1' if a handler
--       declares it or '', then the handler's limit, limit of a group, rate's max and window (ms), each may be '',
--       back-off `jitter,delay,delay…`, payload schema or '', defaults; declared '' | '0' | '1'; limit, limit of a
--       group, rate's max: '' (unchanged) | 'none' | number; the rate's window; paused '' | '0' | '1'; ceilings to set
--       as JSON, null for none, or ''; retention in the same form; the handler's retention as JSON
-- Returns for each type 'ok', or 'unknown' if the type does not exist
-- Cost  two commands for each field of all types together, and several for each type whose limits change
local written, changed_kinds
local TYPES_PER_MESSAGE = 500

-- Reads the stored values of all types, by field, in the order of the call; each is read once.
local function read_before(kinds)
  local before = {}
  for _, key in ipairs({ KEY.rules, KEY.back_off, KEY.retention }) do
    before[key] = {}
    for from = 1, #kinds, CHUNK do
      local to = math.min(from + CHUNK - 1, #kinds)
      for index, value in ipairs(call('HMGET', P .. key, unpack(kinds, from, to))) do
        before[key][kinds[from + index - 1]] = value
      end
    end
  end
  return before
end

local function write(key, kind, value)
  append(written, key, kind)
  append(written, key, value)
end

local function set_fields(all, change)
  for field, value in pairs(cjson.decode(change)) do all[field] = value ~= cjson.null and value or nil end
end

local function retain(kind, stored, set, of_handler)
  local kept = stored and cjson.decode(stored) or { set = {}, handler = {} }
  if set ~= '' then set_fields(kept.set, set) end
  if of_handler ~= '' then kept.handler = cjson.decode(of_handler) end
  if next(kept.set) or next(kept.handler) then
    write(KEY.retention, kind, cjson.encode(kept))
  elseif stored then
    call('HDEL', P .. KEY.retention, kind)
  end
end

local function configure(before, if_missing)
  local kind, may_be_new = arg(), arg()
  local rules = before[KEY.rules][kind]
  local is_paused, limit, limit_by, group, group_by, max, per, rate_by =
    (rules or NEW_RULES):match('^(%d),(%d*),(%l),(%d*),(%l),(%d*),(%d*),(%l)$')
  local group_before, max_before = group, max

  local by_handler = arg() == '1'
  local handler = { limit = arg(), group = arg(), max = arg(), per = arg(), back_off = arg() }
  local schema, defaults = arg(), arg()
  local declared = arg()
  local new_limit, new_group, new_max, new_per, paused, ceilings = arg(), arg(), arg(), arg(), arg(), arg()
  local new_retention, handler_retention = arg(), arg()
  if not rules and may_be_new ~= '1' then return 'unknown' end
  local back_off = by_handler and before[KEY.back_off][kind]
  if back_off and if_missing then return 'ok' end
  if by_handler then
    write(KEY.back_off, kind, handler.back_off)
    write(KEY.schemas, kind, schema)
    write(KEY.defaults, kind, defaults)
    write(KEY.known, kind, NOW)
    if limit_by == 'h' then limit = handler.limit end
    if group_by == 'h' then group = handler.group end
    if rate_by == 'h' then
      max, per = handler.max, handler.per
    end
  end

  if declared == '1' then call('SADD', P .. KEY.declared, kind) end
  if declared == '0' then call('SREM', P .. KEY.declared, kind) end
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
    local all = cjson.decode(call('HGET', P .. KEY.ceilings, kind) or '{}')
    set_fields(all, ceilings)
    call('HSET', P .. KEY.ceilings, kind, cjson.encode(all))
  end

  if new_retention ~= '' or by_handler then
    retain(kind, before[KEY.retention][kind], new_retention, handler_retention)
  end

  if max == '' then per = '' end
  if max == '' and max_before ~= '' then
    call('DEL', P .. KEY.starts .. kind)
    call('HDEL', P .. KEY.started, kind)
  end
  if group ~= group_before then
    if group ~= '' then group_permits.keep(kind) end
    for _, lane in ipairs(lanes_of_type(kind)) do
      for _, name in ipairs(call('HKEYS', P .. KEY.at_limit .. lane.name)) do end_at_limit(lane, name) end
    end
  end
  local changed = table.concat({ is_paused, limit, limit_by, group, group_by, max, per, rate_by }, ',')
  if changed ~= rules then
    write(KEY.rules, kind, changed)
    before[KEY.rules][kind] = changed
    if rules then unpark(kind) end
  end
  if changed ~= rules or (by_handler and back_off ~= handler.back_off) then
    changed_kinds[#changed_kinds + 1] = kind
  end
  return 'ok'
end

function steps.configure()
  has_lost(arg())
  local if_missing, count, kinds, answers = arg() == '1', number(), {}, {}
  for index = 1, count do kinds[index] = arg() end
  written, changed_kinds = {}, {}
  local before = read_before(kinds)
  for index = 1, count do answers[index] = configure(before, if_missing) end
  for key, values in pairs(written) do many('HSET', P .. key, values) end
  -- The previous version accepts only one type in a message.
  if #changed_kinds == 1 then
    broadcast('type ' .. changed_kinds[1])
  else
    for from = 1, #changed_kinds, TYPES_PER_MESSAGE do
      local to = math.min(from + TYPES_PER_MESSAGE - 1, #changed_kinds)
      broadcast('types ' .. table.concat(changed_kinds, ' ', from, to))
    end
  end
  finish_step()
  return answers
end
