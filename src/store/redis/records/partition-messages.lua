-- Messages to other partitions about tasks that wait for each other; a part of the code that all steps share.
--
-- `notices` is a stream of texts, `<partition> <kind> <ref there> <other name> <more>`. The sweep delivers them
-- (partition-messages.ts).
local partition_messages = {}

function partition_messages.send(step, name, kind, other, more)
  local partition, ref = name:match('^(%d+)/(.*)$')
  if step.messages_written == 0 then sweep_at(step, step.now_text) end
  step.messages_written = step.messages_written + 1
  local text = table.concat({ partition, kind, ref, other, more }, ' ')
  call('XADD', step.prefix .. KEY.partition_messages, '*', 'n', text)
end

-- Reads up to `most` messages, {id, text} each, and a bounded number of bytes: a message may carry a result.
function partition_messages.read(step, most)
  local messages, from, bytes, at_once, read = {}, '-', 0, 8, nil
  repeat
    read = call('XRANGE', step.prefix .. KEY.partition_messages, from, '+', 'COUNT', at_once)
    for _, item in ipairs(read) do
      local id, text = item[1], item[2][2]
      messages[#messages + 1] = { id, text }
      from, bytes = '(' .. id, bytes + #text
    end
  until #read < at_once or #messages >= most or bytes >= MESSAGES_BYTES_MAX
  return messages
end

-- Replaces the outcome of a task in messages that its successors have not received yet.
function partition_messages.blank(step, name, blank)
  local key = step.prefix .. KEY.partition_messages
  for _, item in ipairs(call('XRANGE', key, '-', '+')) do
    local id, text = item[1], item[2][2]
    local head = text:match('^(%d+ ended %S+ ' .. name:gsub('[%.%-]', '%%%0') .. ' )')
    if head then
      call('XDEL', key, id)
      call('XADD', key, '*', 'n', head .. blank)
    end
  end
end
