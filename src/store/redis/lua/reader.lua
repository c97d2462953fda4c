-- Acquires or renews the lease of a named reader of the outbox, and commits its position.
--
-- KEYS  the partition's prefix
-- ARGV  now, name, owner, lease in ms (0 releases it, '' only reads), '1' to commit a position, that position, the
--       position to begin at if the reader has none yet, or '' if it is not known
-- Returns {'held' | 'free' (released) | 'other' (another owner holds it), position} | {'new'}: the caller must name the
--       position to begin at
-- Cost  a read and a write
--
-- A reader is stored as `expires|owner|position`; without an owner, the lease is free.
function steps.reader()
  local name, owner, lease_ms = arg(), arg(), number()
  local commits, after, begin_at = arg() == '1', arg(), arg()
  local key = P .. KEY.reader .. name
  local expires, holder, position = (call('GET', key) or ''):match('^(%d+)|([^|]*)|(.*)$')
  if not lease_ms then return { 'other', position or '' } end
  if holder and holder ~= '' and holder ~= owner and tonumber(expires) > now then return { 'other', position } end
  if not position then
    if begin_at == '' then return { 'new' } end
    position = begin_at
  end
  if commits and holder == owner then position = after end
  local held = lease_ms > 0
  call('SET', key, string.format('%d|%s|%s', now + lease_ms, held and owner or '', position))
  return { held and 'held' or 'free', position }
end
