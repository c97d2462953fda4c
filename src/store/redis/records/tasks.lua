-- The texts of tasks in their places; shared.lua lists the places.

-- Returns the fields of a stream entry, or nil: { m = head, p = payload, x = extras, e = error }.
local function entry_of(stream, entry)
  local found = call('XRANGE', stream, entry, entry)[1]
  if not found then return nil end
  local fields = {}
  for index = 1, #found[2], 2 do fields[found[2][index]] = found[2][index + 1] end
  return fields
end

-- Reads extras; fails if they are not JSON.
local function read_extras(x) return cjson.decode('[' .. x .. ']') end
-- The same for stored extras: earlier versions accepted unpaired surrogates, which are refused now.
local function extras_in(x)
  local is_read, extras = pcall(read_extras, x)
  return is_read and extras or read_extras((x:gsub('\\ud[89a-f]%x%x', '\\ufffd')))
end

-- Returns the group of extras that contain only a group; these need no decoding.
local function group_alone(x) return x:match('^{},null,"([^"\\%c]+)"$') end

-- Returns the idempotency key, the group and the batch of extras; each is nil if absent.
local function labels_of(extras)
  local _, key, group, batch = unpack(extras)
  local function given(label) return label ~= cjson.null and label or nil end
  return given(key), given(group), given(batch)
end
local function labels_in(x)
  if x == NO_EXTRAS then return nil end
  -- Most non-empty extras contain only a group.
  local only_group = group_alone(x)
  if only_group then return nil, only_group end
  return labels_of(extras_in(x))
end

-- The head of an entry holds the requested values, `queue_timeout,process_timeout,max_retry`. For a task that was
-- delayed, waited for others, was handed out or was retried before,
-- `,ref,attempts,lost,deliveries,run_at,started,updated,worker` follows.
local function head_of(m, lane, entry)
  local head = {}
  local rest
  head.q, head.p, head.r, rest = m:match('^(%d+),(%d+),(%d+)(.*)$')
  if rest == '' then
    head.ref = lane.no .. '.' .. entry
    head.attempts, head.lost, head.deliveries, head.run_at = '0', '0', '0', entry:sub(1, 13)
    head.started, head.updated, head.worker = '0', head.run_at, 'null'
  else
    head.ref, head.attempts, head.lost, head.deliveries, head.run_at, head.started, head.updated, head.worker =
      rest:match('^,([^,]+),(%d+),(%d+),(%d+),(%d+),(%d+),(%d+),(.*)$')
  end
  return head
end

local function join_head(step, head)
  return table.concat({
    head.q, head.p, head.r, head.ref, head.attempts, head.lost, head.deliveries, head.run_at, head.started,
    step.now_text, head.worker,
  }, ',')
end

-- Returns when a task that waits for its first start times out, or nil.
local function wait_ends(head)
  if head.q == '0' or head.started ~= '0' then return nil end
  return head.run_at + head.q
end

-- A lease: `fence|cancel_at|progress|deadline|lease_ms|expires|entry|attempts|` and then the tail, which is copied
-- unchanged into the text of the finished task: `lost|deliveries|q|p|r|run_at|started|worker`, and the lines after the
-- head. 0 means none; progress is 1 if any was reported; the worker is JSON. The fence is the number of deliveries
-- followed by the secret of the claim, in digits. Only the lease's worker can name the lease; if Redis loses its most
-- recent writes, the same delivery is repeated with another secret.
local function lease_of(record)
  local l = {}
  l.fence, l.cancel_at, l.progress, l.deadline, l.lease_ms, l.expires, l.entry, l.attempts, l.tail =
    record:match('^(%d+)|(%d+)|(%d)|(%d+)|(%d+)|(%d+)|([^|]+)|(%d+)|(.*)$')
  return l
end

local function read_tail(l)
  l.lost, l.deliveries, l.q, l.p, l.r, l.run_at, l.started, l.worker, l.x, l.payload, l.e =
    l.tail:match('^(%d+)|(%d+)|(%d+)|(%d+)|(%d+)|(%d+)|(%d+)|([^\n]*)\n([^\n]*)\n([^\n]*)\n([^\n]*)$')
end

local function join_lease(l)
  return table.concat({
    l.fence, l.cancel_at, l.progress, l.deadline, l.lease_ms, l.expires, l.entry, l.attempts, l.tail,
  }, '|')
end

-- Returns when a lease is due: when it expires, when its attempt reaches its deadline, or when the grace of a cancel
-- ends.
local function due_of(l, grace_ms)
  local due = tonumber(l.expires)
  local deadline, cancel_at = tonumber(l.deadline), tonumber(l.cancel_at)
  if deadline > 0 and deadline < due then due = deadline end
  if cancel_at > 0 and cancel_at + grace_ms < due then due = cancel_at + grace_ms end
  return due
end
