-- Changes documents, all or none, and then reads some; see store/documents.ts.
--
-- KEYS  the partition's prefix
-- ARGV  now; number of changes, each: kind, id, condition ('text', 'absent', 'present', ''), the text that it must
--       have or '', what to do ('set', 'remove', ''), its new text or '', when it is due or '', its last task or '' to
--       keep that; number of reads, each: kind, number of ids or '' for all of the kind, each id
-- Returns {now, 1 if changed or 0, {id, text, last task or '', …} of each read}
-- Cost  one command for each condition, one to four for each change; a read of a whole kind grows with its documents
--
-- A schedule has its text in `schedules`, the time at which it is due in `ticks`, and in `made` its last task: a time
-- and the ref of the task, or `-`. A reader of events is stored as `expires|owner|position`.
local HASH_OF = { schedule = KEY.schedules, key = KEY.api_keys }
local STRING_OF = { secret = KEY.secret, reader = KEY.reader }

local function document_text(step, kind, id)
  local prefix = step.prefix
  if HASH_OF[kind] then return call('HGET', prefix .. HASH_OF[kind], id) end
  return call('GET', prefix .. STRING_OF[kind] .. id)
end

local function read_change(step)
  local c = {}
  c.kind, c.id, c.condition, c.was, c.action, c.text, c.due_at, c.made =
    arg(step), arg(step), arg(step), arg(step), arg(step), arg(step), arg(step), arg(step)
  return c
end

local function holds(step, c)
  if c.condition == '' then return true end
  local text = document_text(step, c.kind, c.id)
  if c.condition == 'absent' then return not text end
  return text and (c.condition == 'present' or text == c.was)
end

local function remove_document(step, c)
  local prefix = step.prefix
  if STRING_OF[c.kind] then return call('DEL', prefix .. STRING_OF[c.kind] .. c.id) end
  call('HDEL', prefix .. HASH_OF[c.kind], c.id)
  if c.kind == 'schedule' then
    call('HDEL', prefix .. KEY.made, c.id)
    call('ZREM', prefix .. KEY.ticks, c.id)
  end
end

local function set_document(step, c)
  local prefix = step.prefix
  if STRING_OF[c.kind] then return call('SET', prefix .. STRING_OF[c.kind] .. c.id, c.text) end
  if c.kind ~= 'schedule' then return call('HSET', prefix .. HASH_OF[c.kind], c.id, c.text) end
  move_schedule(step, c.id, c.text, c.due_at)
  if c.made ~= '' then call('HSET', prefix .. KEY.made, c.id, c.made) end
  if call('ZRANGE', prefix .. KEY.ticks, 0, 0)[1] == c.id then broadcast(step, 'due ' .. c.due_at) end
end

local function read_documents(step, kind, ids)
  local prefix = step.prefix
  local found = {}
  if ids then
    for _, id in ipairs(ids) do
      local text = document_text(step, kind, id)
      if text then found[#found + 1], found[#found + 2] = id, text end
    end
  elseif HASH_OF[kind] then
    found = call('HGETALL', prefix .. HASH_OF[kind])
  else
    local text = document_text(step, kind, '')
    if text then found = { '', text } end
  end
  local answer = {}
  for index = 1, #found, 2 do
    answer[#answer + 1], answer[#answer + 2], answer[#answer + 3] = found[index], found[index + 1], ''
  end
  if kind ~= 'schedule' then return answer end
  for index = 1, #answer, 3 do answer[index + 2] = call('HGET', prefix .. KEY.made, answer[index]) or '' end
  return answer
end

function steps.documents(step)
  local changes, is_changed = {}, true
  for index = 1, number(step) do
    changes[index] = read_change(step)
    is_changed = is_changed and holds(step, changes[index])
  end
  if is_changed then
    for _, change in ipairs(changes) do
      if change.action == 'set' then set_document(step, change) end
      if change.action == 'remove' then remove_document(step, change) end
    end
    if #step.broadcasts > 0 then finish_step(step) end
  end
  local answer = { step.now_text, is_changed and 1 or 0 }
  for index = 1, number(step) do
    local kind, count, ids = arg(step), number(step), nil
    if count then
      ids = {}
      for place = 1, count do ids[place] = arg(step) end
    end
    answer[index + 2] = read_documents(step, kind, ids)
  end
  return answer
end
