-- Reads whether the partition has everything that its log contains, and which process restores it if not; acquires the
-- lease to restore it.
--
-- KEYS  the partition's prefix
-- ARGV  now, owner or '' to read only, lease in ms, '1' if the owner has restored the partition; then also, or '': the
--       reader of events that begins at the first event, the position before that event
-- Returns 'complete' | 'mine' | 'another' | 'empty'
-- Cost  one to three commands
function steps.restoring(step)
  local prefix = step.prefix
  local owner, lease_ms, is_done, reader, position = arg(step), arg(step), arg(step) == '1', arg(step), arg(step)
  local key = prefix .. KEY.restoring
  local holder = call('GET', key)
  if holder == RESTORED then return 'complete' end
  if owner == '' then return holder and 'another' or 'empty' end
  if holder and holder ~= owner then return 'another' end
  if is_done then
    -- The lease was lost in the meantime: changes made after that are not known here.
    if not holder then return 'empty' end
    if reader ~= '' then call('SET', prefix .. KEY.reader .. reader, '0||' .. position, 'NX') end
    call('SET', key, RESTORED)
    return 'complete'
  end
  call('SET', key, owner, 'PX', lease_ms)
  return 'mine'
end
