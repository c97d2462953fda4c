-- The attempts of tasks that did not end them; a part of the code that all steps share.
--
-- The list `attempts:<ref>` has a text `<n>|<total>|<json>` for each, oldest first: n counts from 1, total is the
-- number of bytes of all JSON up to and including this one, and the JSON is that of task/attempt.ts: `[delivery,
-- number, outcome, started, ended, worker, error]`. A task without such attempts has no list.

local attempts = {}
do

local repeated = { held = true, released = true }

-- Returns n, total, and the JSON.
local function unpack_attempt(text)
  local n, total, json = text:match('^(%d+)|(%d+)|(.*)$')
  return tonumber(n), tonumber(total), json
end
local function pack_attempt(n, total, json) return string.format('%d|%d|', n, total) .. json end

-- The same for the parts of the JSON: errors are long, and a copy less of them counts.
local function pack_parts(n, total, start, worker, error)
  return string.format('%d|%d|', n, total) .. start .. worker .. ',' .. error .. ']'
end

-- Adds an attempt and drops the oldest ones beyond the bounds. Consecutive holds count as one, and so do releases.
-- @param attempt delivery, number, started_at, ended_at, and as JSON worker and error
function attempts.keep(step, ref, outcome, attempt)
  local key = step.prefix .. KEY.attempts .. ref
  local start = string.format('[%s,%s,"%s",%s,%s,', attempt.delivery, attempt.number, outcome, attempt.started_at,
    attempt.ended_at)
  local size = #start + #attempt.worker + #attempt.error + 2
  -- Before the second delivery, there is no list.
  local last = attempt.delivery ~= '1' and call('LINDEX', key, -1)
  if not last then
    call('RPUSH', key, pack_parts(1, size, start, attempt.worker, attempt.error))
    return
  end
  local n, total, last_json = unpack_attempt(last)
  if repeated[outcome] and last_json:match('^%[%d+,%d+,"(%l+)"') == outcome then
    call('LSET', key, -1, pack_parts(n, total - #last_json + size, start, attempt.worker, attempt.error))
    return
  end
  n, total = n + 1, total + size
  call('RPUSH', key, pack_parts(n, total, start, attempt.worker, attempt.error))
  while true do
    local first_n, first_total = unpack_attempt(call('LINDEX', key, 0))
    if first_n > n - ATTEMPTS_MAX and first_total > total - ATTEMPTS_BYTES_MAX then return end
    call('LPOP', key)
  end
end

-- Keeps the attempt that ended a task which is to run again, given its text. A task that was canceled while it waited
-- has no further attempt.
function attempts.keep_last(step, ref, text)
  local status, attempt = last_attempt(text)
  if attempt.started_at == '0' then return end
  local last = call('LINDEX', step.prefix .. KEY.attempts .. ref, -1)
  if last and last:match('^%d+|%d+|%[(%d+)') == attempt.delivery then return end
  attempts.keep(step, ref, status, attempt)
end

-- Adds attempts from another log.
function attempts.restore(step, ref, left_out, jsons)
  local total = 0
  for index, json in ipairs(jsons) do
    total = total + #json
    call('RPUSH', step.prefix .. KEY.attempts .. ref, pack_attempt(left_out + index, total, json))
  end
end

-- Returns the number of attempts that are no longer kept, and the JSON of each kept one.
function attempts.read(step, ref)
  local kept = call('LRANGE', step.prefix .. KEY.attempts .. ref, 0, -1)
  local left_out, jsons = 0, {}
  for index, text in ipairs(kept) do
    local n, _, json = unpack_attempt(text)
    if index == 1 then left_out = n - 1 end
    jsons[index] = json
  end
  return left_out, jsons
end

end
