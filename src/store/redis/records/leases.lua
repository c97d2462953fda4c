-- The records of leases and of finished tasks; a part of the code that all steps share. Only this file knows their
-- formats.
--
-- A lease: `fence|cancel_at|progress|deadline|lease_ms|expires|entry|attempts|` and then the tail, which is copied
-- unchanged into the text of the finished task: `lost|deliveries|queue_timeout|process_timeout|max_retry|run_at|
-- started|worker`, and the lines after the head. 0 means none; progress is 1 if any was reported; the worker is JSON.
-- The fence is the number of deliveries followed by the secret of the claim, in digits. Only the lease's worker can
-- name the lease; if Redis loses its most recent writes, the same delivery is repeated with another secret.
--
-- A finished task: `status|reason|completed|attempts|`, the tail of its lease, and error, progress and result as lines.

-- Leases --------------------------------------------------------------------------------------------------------------

local NO_ERROR = '\nnull'

-- Tables are made with all of their fields, because one that grows costs more.
local function unpack_lease(record)
  local fence, cancel_at, has_progress, deadline_at, lease_ms, expires_at, entry, attempts, tail_at =
    record:match('^(%d+)|(%d+)|(%d)|(%d+)|(%d+)|(%d+)|([^|]+)|(%d+)|()')
  return {
    fence = fence, cancel_at = cancel_at, has_progress = has_progress, deadline_at = deadline_at, lease_ms = lease_ms,
    expires_at = expires_at, entry = entry, attempts = attempts, tail = record:sub(tail_at),
  }
end

-- Returns the task of a lease, with the fields of the tail.
local function unpack_tail(ref, lease)
  local lost_leases, deliveries, queue_timeout_ms, process_timeout_ms, max_retry, run_at, started_at, worker, extras,
    payload, error = lease.tail:match(
      '^(%d+)|(%d+)|(%d+)|(%d+)|(%d+)|(%d+)|(%d+)|([^\n]*)\n([^\n]*)\n([^\n]*)\n([^\n]*)$')
  return {
    ref = ref, attempts = lease.attempts, lost_leases = lost_leases, deliveries = deliveries,
    queue_timeout_ms = queue_timeout_ms, process_timeout_ms = process_timeout_ms, max_retry = max_retry,
    run_at = run_at, started_at = started_at, worker = worker, extras = extras, payload = payload, error = error,
  }
end

local function pack_lease(lease)
  return table.concat({
    lease.fence, lease.cancel_at, lease.has_progress, lease.deadline_at, lease.lease_ms, lease.expires_at, lease.entry,
    lease.attempts, lease.tail,
  }, '|')
end

-- Returns the first line of the tail of a task that starts or ends.
local function pack_tail(task)
  return table.concat({
    task.lost_leases, task.deliveries, task.queue_timeout_ms, task.process_timeout_ms, task.max_retry, task.run_at,
    task.started_at, task.worker,
  }, '|')
end

-- Returns when a lease is due: when it expires, when its attempt reaches its deadline, or when the grace of a cancel
-- ends.
local function due_of(lease, grace_ms)
  local due = tonumber(lease.expires_at)
  local deadline, cancel_at = tonumber(lease.deadline_at), tonumber(lease.cancel_at)
  if deadline > 0 and deadline < due then due = deadline end
  if cancel_at > 0 and cancel_at + grace_ms < due then due = cancel_at + grace_ms end
  return due
end

local function fence_of(record) return record:match('^%d+') end
local function deliveries_of(lease) return lease.tail:match('^%d+|(%d+)') end
local function is_cancel_requested(record) return record:find('^%d+|0|') == nil end

-- Returns the lines of a record that a worker's list of holders needs, and the one that the caller settles it by.
local function head_and_extras(record) return record:match('^[^\n]*\n[^\n]*') end
local function first_line(record) return record:match('^[^\n]*') end

-- Leases of tasks that are handed out for the first time. Those of one turn with the same head have equal records,
-- except for the entry, the time in it, and the lines: `<prefix><entry><middle><time><suffix><lines>`.
local fresh_leases = {}
function fresh_leases.common(lease, request, started_at, worker)
  local suffix = '|' .. started_at .. '|' .. worker .. '\n'
  return {
    prefix = table.concat({ lease.fence, '0|0', lease.deadline_at, lease.lease_ms, lease.expires_at, '' }, '|'),
    middle = '|0|0|1|' .. request:gsub(',', '|') .. '|', suffix = suffix, plain_suffix = suffix .. NO_EXTRAS .. '\n',
  }
end

function fresh_leases.pack(fresh, entry, lines)
  return fresh.prefix .. entry .. fresh.middle .. entry:sub(1, 13) .. fresh.suffix .. lines
end

-- The same for the parts of the lines.
function fresh_leases.pack_parts(fresh, entry, extras, payload)
  local time = entry:sub(1, 13)
  return fresh.prefix .. entry .. fresh.middle .. time .. fresh.suffix .. extras .. '\n' .. payload .. NO_ERROR
end

-- The same for a task without extras.
function fresh_leases.pack_plain(fresh, entry, payload)
  return fresh.prefix .. entry .. fresh.middle .. entry:sub(1, 13) .. fresh.plain_suffix .. payload .. NO_ERROR
end

-- The part of a record before its time of expiry is sent by the worker; the time, the entry and the attempts that
-- follow have a fixed width: `<13 digits>|<24 digits>|0|`, and then the tail begins.
function fresh_leases.tail_of(record, width)
  local tail_at = 42
  return record:sub(width + tail_at)
end

local worker_and_extras
do

local NO_LABELS = '\n' .. NO_EXTRAS .. '\n'

-- Returns worker and extras of a tail; nil if the task has no extras and no error of a previous attempt.
function worker_and_extras(tail)
  if tail:find(NO_LABELS, 1, true) then return nil end
  local worker, extras = tail:match('|([^|\n]*)\n([^\n]*)\n')
  -- A worker's name may contain a bar, and end with one.
  if worker:byte(1) ~= 34 or #worker == 1 then
    worker, extras = tail:match('^%d+|%d+|%d+|%d+|%d+|%d+|%d+|([^\n]*)\n([^\n]*)\n')
  end
  return worker, extras
end

end

local previous_error = {}
function previous_error.is_in(tail) return tail:sub(-#NO_ERROR) ~= NO_ERROR end

-- Returns a record without the error of the previous attempt, its last line. Finding a character is faster than
-- matching all others, and errors are long.
function previous_error.cut(record)
  if not previous_error.is_in(record) then return record end
  local at = 0
  for _ = 1, 3 do at = record:find('\n', at + 1, true) end
  return record:sub(1, at - 1) .. NO_ERROR
end

-- Finished tasks ------------------------------------------------------------------------------------------------------

local function pack_finished(step, status, reason, task, extras, payload, error, progress, result)
  local first = table.concat({ status, reason, step.now_text, task.attempts, pack_tail(task) }, '|')
  return table.concat({ first, extras, payload, 'null', error, progress, result }, '\n')
end

-- The same for a success without progress, given the tail of its lease.
local function pack_success(step, attempts, tail, result)
  return 'success||' .. step.now_text .. '|' .. attempts .. '|' .. tail .. '\nnull\nnull\n' .. result
end

local function final_status(text) return text:match('^%l+') end

-- Returns the error that a task shows, as JSON: of a task that has not ended, that of its previous attempt.
local function error_of(found, text)
  if found == 'finished' then return text:match('^[^\n]*\n[^\n]*\n[^\n]*\n[^\n]*\n([^\n]*)') end
  return text:match('^[^\n]*\n[^\n]*\n[^\n]*\n([^\n]*)')
end

-- Returns status, time of the end and attempts.
local function finished_state(text) return text:match('^(%l+)|[%l_]*|(%d+)|(%d+)') end

-- Returns the status of a finished task and its last attempt.
local function last_attempt(text)
  local status, ended_at, number, delivery, started_at, worker, error = text:match(
    '^(%l+)|[%l_]*|(%d+)|(%d+)|%d+|(%d+)|%d+|%d+|%d+|%d+|(%d+)|([^\n]*)\n[^\n]*\n[^\n]*\n[^\n]*\n([^\n]*)\n')
  return status, {
    delivery = delivery, number = number == '0' and '1' or number, started_at = started_at, ended_at = ended_at,
    worker = worker, error = error,
  }
end

local function unpack_finished(text)
  local status, deliveries, queue_timeout_ms, process_timeout_ms, max_retry, extras, payload, error, result =
    text:match('^(%l+)|[%l_]*|%d+|%d+|%d+|(%d+)|(%d+)|(%d+)|(%d+)|[^\n]*\n([^\n]*)\n([^\n]*)\n'
      .. '[^\n]*\n([^\n]*)\n[^\n]*\n([^\n]*)$')
  return {
    status = status, deliveries = deliveries, queue_timeout_ms = queue_timeout_ms,
    process_timeout_ms = process_timeout_ms, max_retry = max_retry, extras = extras, payload = payload, error = error,
    result = result,
  }
end
