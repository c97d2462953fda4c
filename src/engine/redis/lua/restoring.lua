-- Whether the partition has everything that its log told it, and who restores it if not.
--
-- ARGV  now, owner or '' to look only, lease in ms; if the owner has restored it, the reader of events that begins with
--       the first one then, else ''; the position before that
-- Returns 'complete' | 'mine' | 'another' | 'empty'
-- Cost  one to three commands
--
-- The key is lost together with everything else: that it is missing tells of the loss.
local COMPLETE = 'complete'

function steps.restoring()
  local owner, lease_ms, reader, position = arg(), arg(), arg(), arg()
  local key = P .. KEY.restoring
  local holder = call('GET', key)
  if holder == COMPLETE then return 'complete' end
  if owner == '' then return holder and 'another' or 'empty' end
  if holder and holder ~= owner then return 'another' end
  if reader ~= '' then
    -- The lease was lost meanwhile: what came after it is not known here.
    if not holder then return 'empty' end
    call('SET', P .. KEY.reader .. reader, '0||' .. position, 'NX')
    call('SET', key, COMPLETE)
    return 'complete'
  end
  call('SET', key, owner, 'PX', lease_ms)
  return 'mine'
end
