-- Long payloads of tasks that have started; a part of the code that all steps share.
--
-- The record of a waiting task contains its payload. A claim puts a long one into a key of its own, `payload:<ref>`;
-- the records of the lease and of the finished task have APART, which is not JSON, in its place. So a payload is copied
-- once when its task starts, and not again until the task is removed. A task that is to run again has it in its record
-- again: every version can claim what waits. A process of an earlier version would not read APART, so it is written
-- only while none of them sweeps.
local payloads = {}
do

local APART = '@'
local APART_LINE = '\n' .. APART .. '\n'

local function key_of(step, ref) return step.prefix .. KEY.payload .. ref end

local function is_alone(step)
  if step.is_alone == nil then
    local prefix = step.prefix
    step.is_alone = call('EXISTS', prefix .. KEY.maintainer_before, prefix .. KEY.maintainer_first) == 0
      and not call('HGET', prefix .. KEY.totals, 'others')
  end
  return step.is_alone
end

-- Returns what the record of a starting task has in place of its payload; `write` stores it.
function payloads.set_apart(step, ref, payload)
  if #payload < PAYLOAD_APART_BYTES or not is_alone(step) then return payload end
  local size = #step.payloads_apart
  step.payloads_apart[size + 1], step.payloads_apart[size + 2] = key_of(step, ref), payload
  return APART
end

-- The same for the lines after a head: extras, payload and previous error.
function payloads.set_line_apart(step, ref, lines)
  if #lines < PAYLOAD_APART_BYTES then return lines end
  local extras, payload, error = lines:match('^([^\n]*\n)([^\n]*)(\n.*)$')
  return extras .. payloads.set_apart(step, ref, payload) .. error
end

function payloads.write(step)
  if #step.payloads_apart == 0 then return end
  many('MSET', nil, step.payloads_apart)
  step.payloads_apart = {}
end

-- Returns the payload of a record.
function payloads.read(step, ref, payload)
  return payload == APART and (call('GET', key_of(step, ref)) or 'null') or payload
end

-- The same for a record that is to contain it again.
function payloads.take_back(step, ref, payload)
  return payload == APART and (call('GETDEL', key_of(step, ref)) or 'null') or payload
end

-- Returns a text with its payload. No other line is APART.
function payloads.complete(step, ref, text)
  local at = text:find(APART_LINE, 1, true)
  return at and text:sub(1, at) .. payloads.read(step, ref, APART) .. text:sub(at + #APART_LINE - 1) or text
end

end
