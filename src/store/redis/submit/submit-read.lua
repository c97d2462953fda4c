-- Reading the calls of submit.lua, before anything of any call is written.

-- Returns what all calls of a step have in common.
local function read_admission(step)
  local admission = { was_here = arg(step), must_be_restored = arg(step) == '1' }
  admission.mode, admission.least_n, admission.type_ttl = arg(step), number(step), number(step)
  admission.pending_max, step.retention_ms, admission.successors_max = number(step), number(step), number(step)
  -- Whether each type is known, runs of accepted tasks for the events, tasks whose state is decided at the end.
  admission.known, admission.runs, admission.begun = {}, {}, {}
  -- The named limits that tasks use: all names, and their settings; the units that tasks use, by their text.
  admission.limit_names, admission.limits, admission.units = {}, {}, {}
  return admission
end

local function is_known(step, admission, kind)
  local known = admission.known[kind]
  if known == nil then
    local seen = tonumber(call('HGET', step.prefix .. KEY.known, kind) or '')
    known = (seen and seen > step.now - admission.type_ttl)
      or call('SISMEMBER', step.prefix .. KEY.declared, kind) == 1
    admission.known[kind] = known
  end
  return known
end

-- Reads a time: nil for '', and NaN, which equals nothing, for an invalid one.
local function time(step)
  local text = arg(step)
  if text == '' then return nil end
  return text:match('^%d+$') and #text < 16 and tonumber(text) or 0 / 0
end
local function is_time(at_ms) return at_ms == nil or at_ms == at_ms end

-- Returns the units of limits in a text, nil if it is invalid: {by name, is_refused: whether the limits never allow
-- them}.
local function units_in(admission, text)
  local units = admission.units[text]
  if units ~= nil then return units end
  local is_read, by_name = pcall(cjson.decode, text)
  units = is_read and type(by_name) == 'table' and { by_name = by_name, is_refused = nil }
  admission.units[text] = units
  for name in pairs(units and by_name or {}) do
    if not admission.limits[name] then
      admission.limits[name] = ''
      admission.limit_names[#admission.limit_names + 1] = name
    end
  end
  return units
end

local function read_limits(step, admission)
  for index, text in ipairs((limits.read_settings(step, admission.limit_names))) do
    admission.limits[admission.limit_names[index]] = text
  end
end

-- Returns whether limits do not exist, or can never give so many units.
local function never_fit(admission, units)
  if units.is_refused == nil then
    units.is_refused = false
    for name, its_units in pairs(units.by_name) do
      local text = admission.limits[name]
      local settings = text ~= '' and limits.unpack(text)
      local most = settings and math.min(settings.max or math.huge, settings.rate_max or math.huge) or 0
      units.is_refused = units.is_refused or its_units > most
    end
  end
  return units.is_refused
end

-- Returns the refusal of tasks whose limits do not exist, or can never give what the tasks need; nil if there is none.
local function refuse_uses(admission, tasks, earlier)
  local refusal, names, seen = { 'limits', {} }, {}, {}
  for index, task in ipairs(tasks) do
    local units = not earlier[index] and task.units
    if units and never_fit(admission, units) then refusal[#refusal + 1] = { index } end
    for name in pairs(units and not seen[units] and units.by_name or {}) do
      if not seen[name] then
        names[#names + 1], seen[name] = name, true
        names[#names + 1] = admission.limits[name]
      end
    end
    if units then seen[units] = true end
  end
  refusal[2] = names
  return refusal[3] and refusal
end

-- Reads what the tasks of a shape have besides the payload; returns whether it is valid.
local function read_common(step, admission, shape)
  local extras, uses = arg(step), arg(step)
  if uses == '' then return true end
  shape.units, shape.extras = units_in(admission, uses), complete_extras(extras, {}, uses)
  local is_read, labels = pcall(limits.labels_of, step, shape.extras)
  shape.labels = is_read and labels
  return shape.units and shape.labels
end

local function read_shapes(step, admission)
  admission.shapes, admission.shape_count, admission.all_known = {}, number(step), true
  for index = 1, admission.shape_count do
    local shape = { type = arg(step), priority = arg(step), head_text = arg(step) }
    local is_valid = read_common(step, admission, shape)
    -- An invalid shape is left out, and so are its tasks.
    if is_valid and shape.priority:match('^%d$') and unpack_request(shape.head_text) then
      admission.shapes[index] = shape
    end
    -- The type of a schedule was known when the schedule was made.
    admission.all_known = (admission.mode == 'tick' or is_known(step, admission, shape.type)) and admission.all_known
  end
end

-- Returns whether all parts of a task can be stored; reads the extras, once.
local function is_storable(task)
  if not task.shape or not task.payload then return false end
  if not task.extras then return true end
  local is_read, extras = true, nil
  task.group = group_alone(task.extras)
  if task.extras ~= NO_EXTRAS and not task.group then is_read, extras = pcall(unpack_extras, task.extras) end
  if is_read and extras then task.group, task.batch = extras.group, extras.batch end
  return is_read and is_time(task.delay) and is_time(task.run_at)
end

-- Reads a task that has nothing else but its shape. It has all fields of such a task: a table that grows costs more.
local function read_plain(step, shape)
  return { shape = shape, payload = arg(step), units = shape and shape.units, ref = nil }
end

-- Reads a task of a call.
local function read_task(step, admission, asked)
  local shape = number(step)
  if shape > 0 then return read_plain(step, admission.shapes[shape]) end
  local task = { shape = admission.shapes[-shape], payload = arg(step) }
  task.extras, task.delay, task.run_at = arg(step), time(step), time(step)
  task.key, task.request, task.uses = next_args(step, 3)
  task.after = {}
  for place = 1, number(step) do task.after[place] = arg(step) end
  if task.uses ~= '' then task.units = units_in(admission, task.uses) end
  asked.depends = asked.depends or #task.after > 0
  asked.keyed = asked.keyed or task.key ~= ''
  return task
end

-- Adds a task to its call. Besides the tasks, the fields of a call are nil in most: the types that are `unknown`, its
-- first task that is `bad` and cannot be stored, whether any task is `keyed`, or `depends` on others.
local function add_task(step, admission, asked, index, task)
  if not is_storable(task) or task.units == false then
    asked.bad = asked.bad or index
  elseif not admission.all_known and not is_known(step, admission, task.shape.type) then
    asked.unknown = asked.unknown or {}
    asked.unknown[#asked.unknown + 1] = task.shape.type
  end
  asked.tasks[index] = task
end

local function read_call(step, admission, size)
  local asked = { tasks = {} }
  for index = 1, size do add_task(step, admission, asked, index, read_task(step, admission, asked)) end
  return asked
end

local function read_plain_call(step, admission, shape)
  local asked = { tasks = {} }
  add_task(step, admission, asked, 1, read_plain(step, shape))
  return asked
end

-- Reads all calls before anything of any call is written.
local function read_calls(step, admission)
  local calls, count = {}, number(step)
  while #calls < count do
    local size = number(step)
    if size > 0 then
      calls[#calls + 1] = read_call(step, admission, size)
    else
      for _ = 1, number(step) do calls[#calls + 1] = read_plain_call(step, admission, admission.shapes[-size]) end
    end
  end
  return calls
end
