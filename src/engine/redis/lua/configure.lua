-- Declares types or changes them.
--
-- ARGV  now, '1' from a process that has met the store before, '1' to leave alone what a handler has told of before,
--       number of types, each: type, '1' if it may be new;
--       '' or '1' where a handler tells of it: limit, limit of a group, rate's max and window (ms), each may be '';
--       back-off `jitter,delay,delay…`, payload schema or '', defaults;
--       declared '' | '0' | '1'; limit, limit of a group, rate's max: '' (as it is) | 'none' | number; the rate's
--       window; paused '' | '0' | '1'; ceilings to set as JSON, null: none, or ''; the same of retention, and that of
--       the handler as JSON
-- Returns for each 'ok', or 'unknown' for a type that nobody has made known
-- Cost  some ten commands a type
local function set_fields(all, change)
  for field, value in pairs(cjson.decode(change)) do all[field] = value ~= cjson.null and value or nil end
end

local function retain(kind, set, of_handler)
  local stored = call('HGET', P .. KEY.retention, kind)
  local kept = stored and cjson.decode(stored) or { set = {}, handler = {} }
  if set ~= '' then set_fields(kept.set, set) end
  if of_handler ~= '' then kept.handler = cjson.decode(of_handler) end
  if next(kept.set) or next(kept.handler) then
    call('HSET', P .. KEY.retention, kind, cjson.encode(kept))
  elseif stored then
    call('HDEL', P .. KEY.retention, kind)
  end
end

local function configure(if_missing)
  local kind, may_be_new = arg(), arg()
  local rules = call('HGET', P .. KEY.rules, kind)
  local is_paused, limit, limit_by, group, group_by, max, per, rate_by =
    (rules or NEW_RULES):match('^(%d),(%d*),(%l),(%d*),(%l),(%d*),(%d*),(%l)$')
  local group_before = group

  local by_handler = arg() == '1'
  local handler = { limit = arg(), group = arg(), max = arg(), per = arg(), back_off = arg() }
  local schema, defaults = arg(), arg()
  local declared = arg()
  local new_limit, new_group, new_max, new_per, paused, ceilings = arg(), arg(), arg(), arg(), arg(), arg()
  local new_retention, handler_retention = arg(), arg()
  if not rules and may_be_new ~= '1' then return 'unknown' end
  local back_off = by_handler and call('HGET', P .. KEY.back_off, kind)
  if back_off and if_missing then return 'ok' end
  if by_handler then
    call('HSET', P .. KEY.back_off, kind, handler.back_off)
    call('HSET', P .. KEY.schemas, kind, schema)
    call('HSET', P .. KEY.defaults, kind, defaults)
    call('HSET', P .. KEY.known, kind, NOW)
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

  if new_retention ~= '' or by_handler then retain(kind, new_retention, handler_retention) end

  if max == '' then
    per = ''
    call('DEL', P .. KEY.starts .. kind)
    call('HDEL', P .. KEY.started, kind)
  end
  if group ~= group_before then
    for _, lane in ipairs(lanes_of_type(kind)) do
      for _, name in ipairs(call('HKEYS', P .. KEY.at_limit .. lane.name)) do end_at_limit(lane, name) end
    end
  end
  local changed = table.concat({ is_paused, limit, limit_by, group, group_by, max, per, rate_by }, ',')
  if changed ~= rules then call('HSET', P .. KEY.rules, kind, changed) end
  if changed ~= rules or (by_handler and back_off ~= handler.back_off) then broadcast('type ' .. kind) end
  return 'ok'
end

function steps.configure()
  has_lost(arg())
  local if_missing, answers = arg() == '1', {}
  for index = 1, number() do answers[index] = configure(if_missing) end
  leave_behind()
  return answers
end
