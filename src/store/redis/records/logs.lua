-- Lines that handlers wrote with their log; a part of the code that all steps share.
--
-- The list `logs:<ref>` of a task has a text `<last>|<count>|<delivery>|<attempt>|<total>|<body>` for the lines of each
-- turn, oldest first: the number of the last line, counted from 1, the number of lines, the attempt that wrote them,
-- the bytes of all bodies up to and including this one, and the lines, one line of text each. A task without lines has
-- no list.

local logs = {}
do

local READ_AT_ONCE = 50

local function unpack_log(text)
  local last, count, delivery, attempt, total, body = text:match('^(%d+)|(%d+)|(%d+)|(%d+)|(%d+)|(.*)$')
  return { last = tonumber(last), count = tonumber(count), delivery = delivery, attempt = attempt,
    total = tonumber(total), body = body }
end

-- Adds lines of the present attempt, and drops the oldest ones beyond the bounds.
-- @param log ref, lines_max, skipped, count and body
function logs.add(step, log, lease)
  local key = step.prefix .. KEY.logs .. log.ref
  local before = call('LINDEX', key, -1)
  before = before and unpack_log(before) or { last = 0, total = 0 }
  local last, total = before.last + log.skipped + log.count, before.total + #log.body
  local head = string.format('%d|%d|%s|%d|%d|', last, log.count, deliveries_of(lease), lease.attempts + 1, total)
  call('RPUSH', key, head .. log.body)
  while true do
    local first = unpack_log(call('LINDEX', key, 0))
    if first.last > last - log.lines_max and first.total > total - LOG_BYTES_MAX then return end
    call('LPOP', key)
  end
end

-- Returns the number of lines of a task that are no longer kept, and the texts with `most` lines or a few more after a
-- position, oldest first.
function logs.read(step, ref, after, most)
  local key = step.prefix .. KEY.logs .. ref
  local first = call('LINDEX', key, 0)
  if not first then return 0, {} end
  local oldest = unpack_log(first)
  local from, entries = call('LLEN', key), {}
  -- Backwards to the first text after the position: a reader that follows has read nearly all.
  while from > 0 do
    local to = from - 1
    from = math.max(0, from - READ_AT_ONCE)
    local some = call('LRANGE', key, from, to)
    for index = #some, 1, -1 do table.insert(entries, some[index]) end
    if unpack_log(some[1]).last <= after then break end
  end
  local found, lines = {}, 0
  for index = #entries, 1, -1 do
    local log = unpack_log(entries[index])
    if log.last > after and lines < most then
      found[#found + 1] = entries[index]
      lines = lines + math.min(log.count, log.last - after)
    end
  end
  return oldest.last - oldest.count, found
end

end
