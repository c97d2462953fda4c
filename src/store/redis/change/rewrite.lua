-- Replaces the records of events. An entry of a stream cannot be changed, so the new one is written to a zset that
-- readers read as well. Redis keeps the bytes of a deleted entry while its node has other entries, so these follow into
-- the zset, which frees the node.
--
-- KEYS  the partition's prefix
-- ARGV  now, number of entries, each: its last number, its records
-- Returns 'done'
-- Cost  three commands an entry, and up to 600 for the first one of a node

-- The most entries and bytes of a node, as Redis has them by default (`stream-node-max-entries`, `-bytes`).
local NODE_ENTRIES, NODE_BYTES = 100, 4096

local function move(step, entry, records)
  local prefix = step.prefix
  local was_in_stream = call('XDEL', prefix .. KEY.events, entry.id) == 1
  if not was_in_stream then call('ZREMRANGEBYSCORE', prefix .. KEY.erased_events, entry.last, entry.last) end
  call('ZADD', prefix .. KEY.erased_events, entry.last, outbox.pack_erased(entry, records))
  return was_in_stream
end

local function move_neighbours(step, entry, command, last)
  local events, id, bytes = step.prefix .. KEY.events, entry.id, #entry.records
  for _ = 2, NODE_ENTRIES do
    local item = call(command, events, '(' .. id, last, 'COUNT', 1)[1]
    local neighbour = item and outbox.unpack(item)
    bytes = bytes + (neighbour and #neighbour.records or 0)
    if not neighbour or bytes > NODE_BYTES then return end
    move(step, neighbour, neighbour.records)
    id = neighbour.id
  end
end

function steps.rewrite(step)
  for _ = 1, number(step) do
    local last, records = next_args(step, 2)
    local entry = outbox.read(step, last, 1)[1]
    -- The entry may have been deleted in the meantime.
    if entry and entry.last == last then
      if move(step, entry, records) then
        move_neighbours(step, entry, 'XREVRANGE', '-')
        move_neighbours(step, entry, 'XRANGE', '+')
      end
    end
  end
  return 'done'
end
