-- Counts calls of an API key exactly: no window contains more calls than the rate allows.
--
-- KEYS  the partition's prefix
-- ARGV  now, the key's id, the rate's max and window (ms), number of calls
-- Returns {how many of the calls are allowed, ms until the next call is allowed; 0 if all are}
-- Cost  about five commands, and one for each logged time that has left the window

-- The list is `<time>,<calls up to and including that time>`, oldest first. One entry from before the window is kept,
-- so that the calls in the window are the difference of two totals.
local function entry(log, index)
  local text = call('LINDEX', log, index)
  if not text then return nil end
  local time, total = text:match('^(%d+),(%d+)$')
  return tonumber(time), tonumber(total)
end

-- The log is kept for this time after its window, because the clock of this server may differ from the clock that set
-- the times.
local KEPT_LONGER_MS = 3600000

function steps.calls(step)
  local log = step.prefix .. KEY.calls .. arg(step)
  local max, per_ms, calls = number(step), number(step), number(step)
  local last_at, total = entry(log, -1)
  -- The clock was set back since: the true times of these calls are unknown.
  if last_at and last_at > step.now + per_ms then
    call('DEL', log)
    last_at = nil
  end
  if not last_at then
    last_at, total = 0, 0
    call('RPUSH', log, '0,0')
  end
  local oldest_at = entry(log, 1)
  while oldest_at and oldest_at + per_ms <= step.now do
    call('LPOP', log)
    oldest_at = entry(log, 1)
  end
  local _, before = entry(log, 0)
  local allowed = math.max(0, math.min(calls, max - (total - before)))
  if allowed > 0 then
    local at = math.max(step.now, last_at)
    if at == last_at then call('RPOP', log) end
    call('RPUSH', log, string.format('%d,%d', at, total + allowed))
    call('PEXPIRE', log, per_ms + KEPT_LONGER_MS)
    oldest_at = oldest_at or at
  end
  return { allowed, allowed < calls and oldest_at + per_ms - step.now or 0 }
end
