-- Lets sweeps rest while nothing happens; a part of sweep.lua.
--
-- Whatever gives a sweep something to do adds an event, or deletes `rest` (`sweep_at`). `rest` is `<number of the last
-- event> <until when> <when the next thing is due>`. Sweeps rest only if no task is running or ready, no type or lane
-- waits for a permit, and all types were checked since the last event.
local rest = {}
do

-- What no event announces, such as workers that are gone, is checked this often.
local REST_MS = 10000

-- Returns when the next thing is due ('' for never) if this sweep has nothing to do.
function rest.next_at(step, last_event, text)
  local event, until_ms, next_text = (text or ''):match('^(%d*) (%d+) (%d*)$')
  if not event or event ~= (last_event or '') then return nil end
  local due_ms = next_text == '' and until_ms or next_text
  if step.now < tonumber(until_ms) and step.now < tonumber(due_ms) then return next_text end
end

-- Records which event was the last one at the beginning of a round over all types, and at the end of one that no event
-- was added to.
function rest.note_round(step, is_first, is_last)
  local rounds, last_event = step.prefix .. KEY.rounds, call('GET', step.prefix .. KEY.event_clock) or ''
  local since, checked = unpack(call('HMGET', rounds, 'since', 'checked'))
  if is_first and since ~= last_event then
    since = last_event
    call('HSET', rounds, 'since', since)
  end
  if is_last and since == last_event and checked ~= since then call('HSET', rounds, 'checked', since) end
end

-- After a sweep that found nothing to do.
function rest.begin(step, next_text, at_most_ms)
  local prefix, last_event = step.prefix, call('GET', step.prefix .. KEY.event_clock) or ''
  if call('HGET', prefix .. KEY.rounds, 'checked') ~= last_event then return end
  if call('EXISTS', prefix .. KEY.leases, prefix .. KEY.ready, prefix .. KEY.parked, prefix .. KEY.limits_parked,
    prefix .. KEY.going, prefix .. KEY.put_off) > 0 then return end
  local until_text = string.format('%d', step.now + math.min(REST_MS, at_most_ms))
  call('SET', prefix .. KEY.rest, last_event .. ' ' .. until_text .. ' ' .. next_text)
end

end
