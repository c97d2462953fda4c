-- The records of tasks that wait; a part of the code that all steps share. shared.lua lists the places of tasks.
-- Only this file knows the format of entries, heads, extras and texts.

-- Entries of a lane's stream: `m` is the head, `p` the payload, `x` the extras if there are any, `e` the error of the
-- previous attempt if there was one.

local function pack_entry(head_text, extras, payload, error)
  local fields = { 'm', head_text, 'p', payload }
  if extras ~= NO_EXTRAS then fields[5], fields[6] = 'x', extras end
  local size = #fields
  if error ~= 'null' then fields[size + 1], fields[size + 2] = 'e', error end
  return fields
end

-- The common case: no extras and no previous error.
local function add_plain_entry(lane, entry, head_text, payload)
  call('XADD', lane.stream, entry, 'm', head_text, 'p', payload)
end

-- Returns head, payload, extras and previous error of the fields of an entry; the last two are nil if absent.
local function unpack_entry(fields)
  local extras, error
  for index = 5, #fields, 2 do
    if fields[index] == 'x' then extras = fields[index + 1] else error = fields[index + 1] end
  end
  return fields[2], fields[4], extras, error
end

-- The text of a task in the other places: lines that are JSON except for the first.

local function pack_task(head_text, extras, payload, error)
  return head_text .. '\n' .. extras .. '\n' .. payload .. '\n' .. error
end

-- Returns head, extras, payload and previous error of a text.
local function unpack_task(text) return text:match('^([^\n]*)\n([^\n]*)\n([^\n]*)\n([^\n]*)') end

-- Returns the head of a text and the other lines; and whether such lines name predecessors.
local function split_head(text)
  local ends = text:find('\n', 1, true)
  return text:sub(1, ends - 1), text:sub(ends + 1)
end
local function lines_have_predecessors(lines) return lines:find(']\n', 1, true) == lines:find('\n', 1, true) - 1 end

-- Returns the extras of a text, also of a lease or of a finished task.
local function extras_of(text) return text:match('^[^\n]*\n([^\n]*)') end

-- Returns a text without the parts that may be long.
local function bare_text(text) return (text:match('^[^\n]*\n[^\n]*')) .. '\nnull' end

-- In `again`: the fields of a returned entry that have changed.

local function pack_again(head_text, error) return head_text .. '\n' .. error end
local function unpack_again(text) return text:match('^([^\n]*)\n(.*)$') end

-- Extras are elements of a JSON array: tags, key, group, batch, failure policy, names of predecessors, units of named
-- limits. Only those of a task with predecessors end with `]`: `[]` follows the units of such a task. Of a task with
-- units, the group is its lane (limits.lua).

-- Fails if the text is not JSON.
local function unpack_extras(text)
  local values = cjson.decode('[' .. text .. ']')
  local function given(label) return label ~= cjson.null and label or nil end
  local extras = { tags = values[1], key = given(values[2]), group = given(values[3]), batch = given(values[4]) }
  extras.policy, extras.names, extras.uses = values[5], values[6], given(values[7])
  return extras
end

-- The same for stored extras: earlier versions accepted unpaired surrogates, which are refused now.
local function unpack_stored_extras(text)
  local is_read, extras = pcall(unpack_extras, text)
  return is_read and extras or unpack_extras((text:gsub('\\ud[89a-f]%x%x', '\\ufffd')))
end

-- Returns the group of extras that contain only a group; these need no decoding.
local function group_alone(extras) return extras:match('^{},null,"([^"\\%c]+)"$') end

-- The same for a lane, of extras that contain nothing else but the units.
local function lane_alone(extras)
  local lane = extras:match('^{},null,"([^"%c]+)",null,"cancel",%[%],{')
  lane = lane and lane:gsub('\\u001f', '\31')
  return lane and not lane:find('\\', 1, true) and lane or nil
end

-- Returns the idempotency key, the group or lane, and the batch of extras; each is nil if absent.
local function labels_in(text)
  if text == NO_EXTRAS then return nil end
  -- Most non-empty extras contain only a group.
  local only_group = group_alone(text) or lane_alone(text)
  if only_group then return nil, only_group end
  local extras = unpack_stored_extras(text)
  return extras.key, extras.group, extras.batch
end

local function has_predecessors(extras) return extras:sub(-1) == ']' end

-- Adds the names of predecessors and the units, as JSON, to extras; '' for none.
local function complete_extras(extras, names, uses)
  local listed = names[1] and '["' .. table.concat(names, '","') .. '"]' or '[]'
  if uses == '' then return names[1] and extras .. ',' .. listed or extras end
  return table.concat({ extras, listed, uses, names[1] and '[]' or nil }, ',')
end

-- The head of an entry holds the requested values, `queue_timeout,process_timeout,max_retry`. For a task that was
-- delayed, waited for others, was handed out or was retried before,
-- `,ref,attempts,lost,deliveries,run_at,started,updated,worker` follows.

-- Returns the values of a head of a task that was never delayed, handed out or retried; nil for another one.
local function unpack_request(head_text) return head_text:match('^(%d+),(%d+),(%d+)$') end

-- Returns only these values, as they are in the head.
local function request_of(head_text) return head_text:match('^%d+,%d+,%d+') end

-- Returns how long a task may wait for its first start (ms), '0' for no limit.
local function queue_timeout_of(head_text) return head_text:match('^%d+') end

-- Returns the ref of the task that has a head.
local function ref_of_head(head_text, lane, entry)
  return head_text:match('^%d+,%d+,%d+,([^,]+)') or lane.no .. '.' .. entry
end

local function unpack_head(head_text, lane, entry)
  local queue_timeout_ms, process_timeout_ms, max_retry, rest = head_text:match('^(%d+),(%d+),(%d+)(.*)$')
  local ref, attempts, lost_leases, deliveries, run_at, started_at, updated_at, worker
  if rest == '' then
    ref, attempts, lost_leases, deliveries, started_at, worker = lane.no .. '.' .. entry, '0', '0', '0', '0', 'null'
    run_at = entry:sub(1, 13)
    updated_at = run_at
  else
    ref, attempts, lost_leases, deliveries, run_at, started_at, updated_at, worker =
      rest:match('^,([^,]+),(%d+),(%d+),(%d+),(%d+),(%d+),(%d+),(.*)$')
  end
  return {
    queue_timeout_ms = queue_timeout_ms, process_timeout_ms = process_timeout_ms, max_retry = max_retry, ref = ref,
    attempts = attempts, lost_leases = lost_leases, deliveries = deliveries, run_at = run_at, started_at = started_at,
    updated_at = updated_at, worker = worker,
  }
end

local function pack_head(step, head)
  return table.concat({
    head.queue_timeout_ms, head.process_timeout_ms, head.max_retry, head.ref, head.attempts, head.lost_leases,
    head.deliveries, head.run_at, head.started_at, step.now_text, head.worker,
  }, ',')
end

-- Returns the head of a new task that is not ready at once; `run_at` and `created_at` are texts.
local function pack_new_head(request, ref, run_at, created_at)
  return request .. ',' .. ref .. ',0,0,0,' .. run_at .. ',0,' .. created_at .. ',null'
end

-- Returns whether a head is that of a task which was ready at once when it was accepted, and has not started since.
local function is_as_accepted(head_text, ref, entry)
  return head_text:find(request_of(head_text) .. ',' .. ref .. ',0,0,0,' .. entry:sub(1, 13) .. ',0,', 1, true) == 1
end

-- Returns when a task that waits for its first start times out, or nil.
local function wait_ends(head)
  if head.queue_timeout_ms == '0' or head.started_at ~= '0' then return nil end
  return head.run_at + head.queue_timeout_ms
end
