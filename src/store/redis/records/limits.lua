-- Named limits: their settings, the units in use and the starts that count; a part of the code that all steps share.
-- limit-uses.lua has what tasks use of them, limit-lanes.lua the lanes that wait for them.
--
-- `limits` has the settings of each, `paused,max,source,rate's max,window,source` as in rules.lua; those of `tenant/*`
-- apply to each `tenant/<key>` that has none of its own. `limits_now` has by name the units in use (`+<name>`), until
-- when it is held (`@<name>`), and the number of unfinished tasks that use it (`#<name>`) and of those among them that
-- are not ready (`~<name>`). `using:<name>` has the leases that use it, with their units. `limit_starts:<name>` is the
-- log of a rate, a zset of `<at>,<units>` by time; the member '' has minus the sum of the units.
do

-- The names of one command, and of expired starts that are removed at once.
local NAMES_AT_ONCE, EXPIRED_AT_ONCE = 1000, 100
-- Redis searches small hashes from the start, unless a value is longer than 64 bytes.
local SEARCHED_MAX, LONG = 32, '%066d'
-- A log is kept at least so long: a clock that tests move is not that of the server, which deletes it.
local LOG_KEPT_MS = 3600000

-- Settings and state --------------------------------------------------------------------------------------------------

function limits.unpack(text)
  local paused, max, max_by, rate_max, rate_per_ms, rate_by =
    text:match('^(%d),(%d*),(%l),(%d*),(%d*),(%l)$')
  return {
    paused = paused == '1', max = tonumber(max), rate_max = tonumber(rate_max), rate_per_ms = tonumber(rate_per_ms),
    max_by = max_by, rate_by = rate_by,
  }
end

-- Returns `tenant/*` for `tenant/acme`; the name itself if it has no key.
function limits.family_of(name)
  local family = name:match('^[^/]*/')
  return family and family .. '*' or name
end

-- Reads the settings in force of limits: the text of each, '' for one that does not exist, and whether they are its
-- own.
function limits.read_settings(step, names)
  local texts, are_own = {}, {}
  for from = 1, #names, NAMES_AT_ONCE do
    local to, fields = math.min(from + NAMES_AT_ONCE - 1, #names), {}
    for index = from, to do
      fields[#fields + 1] = names[index]
      fields[#fields + 1] = limits.family_of(names[index])
    end
    local found = call('HMGET', step.prefix .. KEY.limits, unpack(fields))
    for index = from, to do
      local place = (index - from) * 2 + 1
      texts[index], are_own[index] = found[place] or found[place + 1] or '', found[place] ~= false
    end
  end
  return texts, are_own
end

-- Reads units in use and holds of limits whose settings are known.
local function read_states(step, names, texts, are_own, from, to)
  local fields, states = {}, step.of_limits.states
  for index = from, to do
    local size, name = #fields, names[index]
    fields[size + 1], fields[size + 2], fields[size + 3] = '+' .. name, '@' .. name, '@' .. limits.family_of(name)
  end
  local now = call('HMGET', step.prefix .. KEY.limits_now, unpack(fields))
  for index = from, to do
    local place = (index - from) * 3 + 1
    local in_use, held, family_held = unpack(now, place, place + 2)
    local held_until = math.max(tonumber(held or 0), are_own[index] and 0 or tonumber(family_held or 0))
    states[names[index]] = {
      name = names[index], settings = texts[index] ~= '' and limits.unpack(texts[index]) or {}, held_until = held_until,
      own_held_until = tonumber(held or 0), in_use = tonumber(in_use or 0), logged = nil, begun_units = 0,
    }
  end
end

-- Reads limits, once in a step.
local function load(step, names)
  local states, missing = limits.all_of(step).states, {}
  for _, name in ipairs(names) do
    if not states[name] then missing[#missing + 1] = name end
  end
  if not missing[1] then return states end
  local texts, are_own = limits.read_settings(step, missing)
  for from = 1, #missing, NAMES_AT_ONCE do
    read_states(step, missing, texts, are_own, from, math.min(from + NAMES_AT_ONCE - 1, #missing))
  end
  return states
end

-- Returns the units that count for the rate; removes those that no longer do from the log, if the step may write.
local function started_of(step, state)
  if not state.logged then
    local log, expired, offset = step.prefix .. KEY.limit_starts .. state.name, nil, 0
    local until_ms = string.format('%d', step.now - state.settings.rate_per_ms)
    state.logged = -(tonumber(call('ZSCORE', log, '')) or 0)
    repeat
      expired = call('ZRANGEBYSCORE', log, '(0', until_ms, 'LIMIT', offset, EXPIRED_AT_ONCE)
      local units = 0
      for _, entry in ipairs(expired) do units = units + entry:match(',(%d+)$') end
      state.logged = state.logged - units
      if step.only_reads then
        offset = offset + EXPIRED_AT_ONCE
      elseif expired[1] then
        call('ZREM', log, unpack(expired))
        call('ZINCRBY', log, string.format('%d', units), '')
      end
    until #expired < EXPIRED_AT_ONCE
  end
  return state.logged + state.begun_units
end

-- Returns when a rate allows so many units, math.huge for never.
local function rate_opens_at(step, state, units)
  local settings, at_once = state.settings, 100
  if units > settings.rate_max then return math.huge end
  local log = step.prefix .. KEY.limit_starts .. state.name
  local excess, offset, entries = started_of(step, state) + units - settings.rate_max, 0, nil
  repeat
    entries = call('ZRANGEBYSCORE', log, '(0', '+inf', 'LIMIT', offset, at_once)
    for _, entry in ipairs(entries) do
      local at, its_units = entry:match('^(%d+),(%d+)$')
      excess = excess - its_units
      if excess <= 0 then return at + settings.rate_per_ms end
    end
    offset = offset + at_once
  until #entries < at_once
  return step.now + settings.rate_per_ms
end

-- Returns nil if a limit has room for so many units, or when it may have, math.huge if that depends on more than time.
local function opens_at(step, state, units)
  local settings = state.settings
  if settings.paused then return math.huge end
  if state.held_until > step.now then return state.held_until end
  if settings.max and state.in_use + units > settings.max then return math.huge end
  if settings.rate_max and started_of(step, state) + units > settings.rate_max then
    return rate_opens_at(step, state, units)
  end
end

-- Returns when a hold or a rate allows so many units; nil if it does now, or if more is in the way.
function limits.opens_by_time(step, name, units)
  local state = load(step, { name })[name]
  local rate_max = state.settings.rate_max
  if state.settings.paused then return nil end
  if state.held_until > step.now then return state.held_until end
  if not rate_max or units > rate_max or started_of(step, state) + units <= rate_max then return nil end
  return rate_opens_at(step, state, units)
end

function limits.opens_at(step, name, units) return opens_at(step, load(step, { name })[name], units) end

-- Returns how many units of a limit may start, math.huge for any number.
function limits.room_of(step, name)
  local state = load(step, { name })[name]
  local settings = state.settings
  if settings.paused or state.held_until > step.now then return 0 end
  local room = settings.max and settings.max - state.in_use or math.huge
  if settings.rate_max and room > 0 then room = math.min(room, settings.rate_max - started_of(step, state)) end
  return room
end

-- Returns the first limit in the way of a task, the units that it needs, and when it may have them; nil for none.
function limits.blocker(step, uses)
  local states = load(step, uses.names)
  for index, name in ipairs(uses.names) do
    local at = opens_at(step, states[name], uses.units[index])
    if at then return name, uses.units[index], at end
  end
end

-- Changes -------------------------------------------------------------------------------------------------------------

-- Sets the units in use to what the leases say.
function limits.correct_units(step, name, change)
  local state = load(step, { name })[name]
  state.in_use = math.max(state.in_use + change, 0)
  step.of_limits.changed[name], step.of_limits.touched[name] = state, true
end

-- Returns the units in use.
function limits.in_use_of(step, name) return load(step, { name })[name].in_use end

-- Returns how many tasks with the same uses may start, at most `most`.
function limits.fitting(step, uses, most)
  for index, name in ipairs(uses.names) do
    if most <= 0 then return 0 end
    most = math.min(most, math.floor(limits.room_of(step, name) / uses.units[index]))
  end
  return math.max(most, 0)
end

-- Takes the units of tasks that are to start; returns those of one that did not.
local function take_units(step, uses, tasks)
  local states = load(step, uses.names)
  for index, name in ipairs(uses.names) do
    local state, units = states[name], uses.units[index] * tasks
    state.in_use = state.in_use + units
    if state.settings.rate_max then state.begun_units = state.begun_units + units end
  end
end
function limits.reserve(step, uses, tasks) take_units(step, uses, tasks or 1) end
function limits.release(step, uses) take_units(step, uses, -1) end

-- A task whose units are reserved has started.
function limits.start(step, uses, ref) append(step.of_limits.begun, uses, ref) end

-- A lease ends; `usage` has the units that the task used in fact, as JSON, or ''.
function limits.leave(step, ref, uses, started_at, usage)
  local all = limits.all_of(step)
  append(all.ended, uses, ref)
  if not usage or usage == '' then return end
  local used = cjson.decode(usage)
  for index, name in ipairs(uses.names) do
    local more = (used[name] or uses.units[index]) - uses.units[index]
    if more ~= 0 then all.corrections[#all.corrections + 1] = { name = name, at = started_at, more = more } end
  end
end

-- Adds values to those of a limit. Most limits have one list, which is not copied: all limits of its tasks share it.
local function join(lists, name, values)
  local list = lists[name]
  if not list then
    lists[name] = { values = values, is_own = false }
    return
  end
  if not list.is_own then
    local own = {}
    for index, value in ipairs(list.values) do own[index] = value end
    list.values, list.is_own = own, true
  end
  for _, value in ipairs(values) do list.values[#list.values + 1] = value end
end

-- Changes the units of a start, if it still counts.
local function correct(step, state, at, more)
  if not state.settings.rate_max then return end
  started_of(step, state)
  local log = step.prefix .. KEY.limit_starts .. state.name
  local entry = call('ZRANGEBYSCORE', log, at, at)[1]
  if not entry then return end
  local units = tonumber(entry:match(',(%d+)$'))
  local after = math.max(units + more, 0)
  call('ZREM', log, entry)
  if after > 0 then call('ZADD', log, at, string.format('%s,%d', at, after)) end
  call('ZINCRBY', log, string.format('%d', units - after), '')
  state.logged = state.logged + after - units
end

-- Removes leases from those of a limit; returns its units in use after that, those of tasks that begin included. A
-- process of the previous version starts tasks that are not among them; then the others are counted.
local function remove_leases(step, state, refs, units)
  local using, removed = step.prefix .. KEY.using .. state.name, 0
  for from = 1, #refs, CHUNK do
    removed = removed + call('HDEL', using, unpack(refs, from, math.min(from + CHUNK - 1, #refs)))
  end
  if removed == #refs then return math.max(state.in_use - units, 0) end
  local in_use = 0
  for _, its_units in ipairs(call('HVALS', using)) do in_use = in_use + its_units end
  for uses, begun in pairs(step.of_limits.begun) do
    for index, name in ipairs(uses.names) do
      if name == state.name then in_use = in_use + uses.units[index] * #begun end
    end
  end
  return in_use
end

-- Returns the units of the leases that ended. It runs before claims.
function limits.write_ended(step)
  local all = step.of_limits
  if not all then return end
  local lists, names, freed = {}, {}, {}
  for uses, refs in pairs(all.ended) do
    for index, name in ipairs(uses.names) do
      if not freed[name] then names[#names + 1], freed[name] = name, 0 end
      freed[name] = freed[name] + uses.units[index] * #refs
      join(lists, name, refs)
    end
  end
  local states = load(step, names)
  for name, list in pairs(lists) do
    states[name].in_use = remove_leases(step, states[name], list.values, freed[name])
    all.changed[name], all.touched[name] = states[name], true
  end
  for _, one in ipairs(all.corrections) do correct(step, states[one.name], one.at, one.more) end
  all.ended, all.corrections = {}, {}
end

-- Changes the number of unfinished tasks (`#`), or of those that are not ready (`~`), of the limits that a task uses.
function limits.count_uses(step, what, uses, change)
  local counted = limits.all_of(step).counted[what]
  counted[uses] = (counted[uses] or 0) + change
end
function limits.count(step, what, extras, change)
  local uses = limits.uses_of(step, extras)
  if uses then limits.count_uses(step, what, uses, change) end
end

-- Starts no task that uses a limit for some time; a longer hold stays. Returns false if the limit does not exist.
function limits.hold(step, name, until_ms)
  local state = load(step, { name })[name]
  if not state.settings.max_by then return false end
  state.held_until = math.max(state.held_until, until_ms)
  if until_ms > state.own_held_until then
    state.own_held_until = until_ms
    call('HSET', step.prefix .. KEY.limits_now, '@' .. name, string.format('%d', until_ms))
  end
  return true
end

local function log_starts(step, state)
  local log, units = step.prefix .. KEY.limit_starts .. state.name, state.begun_units
  for _, entry in ipairs(call('ZRANGEBYSCORE', log, step.now_text, step.now_text)) do
    call('ZREM', log, entry)
    units = units + entry:match(',(%d+)$')
  end
  call('ZADD', log, step.now_text, string.format('%s,%d', step.now_text, units))
  call('ZINCRBY', log, string.format('%d', -state.begun_units), '')
  call('PEXPIRE', log, string.format('%d', math.max(state.settings.rate_per_ms, LOG_KEPT_MS)))
  state.logged, state.begun_units = (state.logged or 0) + state.begun_units, 0
end

-- Returns leases with their units, as values of a hash.
local function with_units(refs, units, is_long)
  local values = {}
  for place, ref in ipairs(refs) do values[place * 2 - 1], values[place * 2] = ref, units end
  if is_long then values[2] = string.format(LONG, units) end
  return values
end

-- Writes the leases that began.
local function write_begun(step)
  local all, lists = step.of_limits, {}
  for uses, refs in pairs(all.begun) do
    local of_units = {}
    for index, name in ipairs(uses.names) do
      local state, units = all.states[name], uses.units[index]
      local is_long = state.in_use > SEARCHED_MAX
      local key = is_long and -units or units
      of_units[key] = of_units[key] or with_units(refs, units, is_long)
      join(lists, name, of_units[key])
      all.changed[name] = state
    end
  end
  for name, list in pairs(lists) do many('HSET', step.prefix .. KEY.using .. name, list.values) end
  all.begun = {}
end

-- Returns the changes of numbers by their fields.
local function changed_numbers(all)
  local numbers = {}
  for what, counted in pairs(all.counted) do
    for uses, change in pairs(counted) do
      for _, name in ipairs(uses.names) do numbers[what .. name] = (numbers[what .. name] or 0) + change end
    end
    all.counted[what] = {}
  end
  return numbers
end

-- Writes what a step has changed; it runs at the end of each step.
function limits.write(step)
  local all, now, set, removed = step.of_limits, step.prefix .. KEY.limits_now, {}, {}
  write_begun(step)
  for name, state in pairs(all.changed) do
    local size = #set
    if state.in_use > 0 then
      set[size + 1], set[size + 2] = '+' .. name, string.format('%d', state.in_use)
    else
      removed[#removed + 1] = '+' .. name
    end
    if state.begun_units > 0 then log_starts(step, state) end
  end
  for field, change in pairs(changed_numbers(all)) do
    if change ~= 0 and call('HINCRBY', now, field, string.format('%d', change)) <= 0 then
      removed[#removed + 1] = field
    end
  end
  many('HSET', now, set)
  many('HDEL', now, removed)
  all.changed = {}
end

end
