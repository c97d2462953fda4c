-- Declares a type or changes it.
--
-- ARGV  now, type, '1' if it may be new, the default back-off (as below);
--       '' or '1' where a handler tells of it: limit or '', back-off `jitter,delay,delay…`, payload schema or '',
--       defaults; declared '' | '0' | '1'; limit '' (as it is) | 'none' | number; paused '' | '0' | '1'
-- Returns 'ok', or {'unknown'} for a type that nobody has made known
-- Cost  some ten commands
--
-- Rules of a type: `paused,limit,who set it (h handler, o operator)`.
function steps.configure()
  local kind, may_be_new, back_off = arg(), arg(), arg()
  local handler, handler_limit, handler_back_off, schema, defaults = arg(), arg(), arg(), arg(), arg()
  local declared, limit, paused = arg(), arg(), arg()

  local rules = call('HGET', P .. KEY.rules, kind)
  if not rules and may_be_new ~= '1' then return { 'unknown' } end
  local is_paused, old_limit, source = (rules or '0,,h'):match('^(%d),(%d*),(%l)')
  if not rules then call('HSET', P .. KEY.back_off, kind, back_off) end
  if handler == '1' then
    call('HSET', P .. KEY.back_off, kind, handler_back_off)
    call('HSET', P .. KEY.schemas, kind, schema)
    call('HSET', P .. KEY.defaults, kind, defaults)
    call('HSET', P .. KEY.known, kind, NOW)
    if source == 'h' then old_limit = handler_limit end
  end
  if declared == '1' then call('SADD', P .. KEY.declared, kind) end
  if declared == '0' then call('SREM', P .. KEY.declared, kind) end
  if limit ~= '' then
    old_limit, source = limit == 'none' and '' or limit, 'o'
  end
  if paused ~= '' then is_paused = paused end
  call('HSET', P .. KEY.rules, kind, table.concat({ is_paused, old_limit, source }, ','))
  broadcast('type ' .. kind)
  leave_behind()
  return 'ok'
end
