-- Changes documents, all or none, and then reads some; see store/documents.ts.
--
-- KEYS  the partition's prefix
-- ARGV  now; number of changes, each: kind, id, condition ('text', 'absent', 'present', ''), the text that it must
--       have or '', what to do ('set', 'remove', ''), its new text or '', when it is due or '', its last task or '' to
--       keep that; number of reads, each: kind, number of ids or '' for all of the kind, each id
-- Returns {now, 1 if changed or 0, {{id, text, last task or ''}, …} of each read}
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
  local change = {}
  change.kind, change.id, change.condition, change.was, change.action, change.text, change.due_at, change.made =
    arg(step), arg(step), arg(step), arg(step), arg(step), arg(step), arg(step), arg(step)
  return change
end

local function holds(step, change)
  if change.condition == '' then return true end
  local text = document_text(step, change.kind, change.id)
  if change.condition == 'absent' then return not text end
  return text and (change.condition == 'present' or text == change.was)
end

local function remove_document(step, change)
  local prefix = step.prefix
  if STRING_OF[change.kind] then return call('DEL', prefix .. STRING_OF[change.kind] .. change.id) end
  call('HDEL', prefix .. HASH_OF[change.kind], change.id)
  if change.kind == 'schedule' then
    call('HDEL', prefix .. KEY.made, change.id)
    call('ZREM', prefix .. KEY.ticks, change.id)
  end
end

local function set_document(step, change)
  local prefix = step.prefix
  if STRING_OF[change.kind] then return call('SET', prefix .. STRING_OF[change.kind] .. change.id, change.text) end
  if change.kind ~= 'schedule' then return call('HSET', prefix .. HASH_OF[change.kind], change.id, change.text) end
  move_schedule(step, change.id, change.text, change.due_at)
  if change.made ~= '' then call('HSET', prefix .. KEY.made, change.id, change.made) end
  if call('ZRANGE', prefix .. KEY.ticks, 0, 0)[1] == change.id then sweep_at(step, change.due_at) end
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
  local documents = {}
  for index = 1, #found, 2 do
    local id, text = found[index], found[index + 1]
    local made = kind == 'schedule' and call('HGET', prefix .. KEY.made, id) or ''
    documents[#documents + 1] = { id, text, made }
  end
  return documents
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
