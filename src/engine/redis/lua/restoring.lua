-- Whether the partition has everything that its log told it, and who restores it if not.
--
-- ARGV  now, owner or '' to look only, lease in ms, '1' if the owner has restored it; then also, or '': the reader of
--       events that begins with the first one, the position before that
-- Returns 'complete' | 'mine' | 'another' | 'empty'
-- Cost  one to three commands
function steps.restoring()
  local owner, lease_ms, is_done, reader, position = arg(), arg(), arg() == '1', arg(), arg()
  local key = P .. KEY.restoring
  local holder = call('GET', key)
  if holder == RESTORED then return 'complete' end
  if owner == '' then return holder and 'another' or 'empty' end
  if holder and holder ~= owner then return 'another' end
  if is_done then
    -- The lease was lost meanwhile: what came after it is not known here.
    if not holder then return 'empty' end
    if reader ~= '' then call('SET', P .. KEY.reader .. reader, '0||' .. position, 'NX') end
    call('SET', key, RESTORED)
    return 'complete'
  end
  call('SET', key, owner, 'PX', lease_ms)
  return 'mine'
end
