-- Named limits: their settings, the units in use and the starts that count; a part of the code that all steps share.
-- limit-lanes.lua has the lanes that wait for them.
--
-- `limits` has the settings of each, `paused,max,source,rate's max,window,source` as in rules.lua; those of `tenant/*`
-- apply to each `tenant/<key>` that has none of its own. `limits_now` has by name the units in use (`+<name>`), until
-- when it is held (`@<name>`), and the number of unfinished tasks that use it (`#<name>`) and of those among them that
-- are not ready (`~<name>`). `using:<name>` has the leases that use it, with their units. `limit_starts:<name>` is the
-- log of a rate, a zset of `<at>,<units>` by time; the member '' has minus the sum of the units.
--
-- A task that uses limits has the name of its lane in place of its group: the group and the names of the limits,
-- separated by U+001F (laneOf in task/uses.ts). A process of the previous version takes it for a group, so it finds
-- the task, and keeps the records right, without regard to the limits.
do

local SEPARATOR = '\31'
-- The names of one command, and of expired starts that are removed at once.
local NAMES_AT_ONCE, EXPIRED_AT_ONCE = 1000, 100
-- A log is kept at least so long: a clock that tests move is not that of the server, which deletes it.
local LOG_KEPT_MS = 3600000

-- Lanes ---------------------------------------------------------------------------------------------------------------

function limits.are_used(member) return member:find(SEPARATOR, 1, true) ~= nil end
-- The same for a task, by its extras, which are JSON.
function limits.are_in(extras) return extras:find('\\u001f', 1, true) ~= nil end

-- Returns the group of a lane, '' for none.
function limits.group_of(member)
  local ends = member:find(SEPARATOR, 1, true)
  return ends and member:sub(1, ends - 1) or member
end

function limits.names_of(member)
  local names = {}
  for name in member:gmatch(SEPARATOR .. '([^' .. SEPARATOR .. ']+)') do names[#names + 1] = name end
  return names
end

-- The name under which lanes wait for the limit of their group, and back; no other limit has such a name.
function limits.of_group(kind, group) return 'group:' .. kind .. '/' .. group end
function limits.group_in(name) return name:match('^group:([^/]*)/(.*)$') end

local function all_of(step)
  local all = step.of_limits
  if not all then
    -- What is known of each limit; the limits that may have room for lanes that wait; the uses of extras; refs of
    -- leases that ended, by limit; corrections of starts; changes of numbers in `limits_now`; limits whose units have
    -- changed; when the next limit opens; lanes to set aside, and their number; lanes in which the next step continues.
    all = {
      states = {}, touched = {}, uses = {}, ended = {}, corrections = {}, numbers = {}, changed = {}, opens_at = nil,
      aside = {}, aside_count = 0, left_over = {},
    }
    step.of_limits = all
  end
  return all
end

-- Records that a limit may have room for lanes that wait for it.
function limits.touch(step, name) all_of(step).touched[name] = true end

-- Returns the limits that a task uses and the units of each, {names, units}; nil for none.
function limits.uses_of(step, extras)
  if not limits.are_in(extras) then return nil end
  local known = all_of(step).uses
  local uses = known[extras]
  if uses == nil then
    local unpacked = unpack_stored_extras(extras)
    uses = unpacked.uses and { names = limits.names_of(unpacked.group), units = {} } or false
    for index, name in ipairs(uses and uses.names or {}) do uses.units[index] = unpacked.uses[name] or 1 end
    known[extras] = uses
  end
  return uses or nil
end

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
      own_held_until = tonumber(held or 0), in_use = tonumber(in_use or 0), logged = nil, begun = {}, begun_units = 0,
    }
  end
end

-- Reads limits, once in a step.
local function load(step, names)
  local states, missing = all_of(step).states, {}
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

-- Takes the units of a task that is to start; returns those of one that did not.
local function take_units(step, uses, sign)
  local states = load(step, uses.names)
  for index, name in ipairs(uses.names) do
    local state, units = states[name], uses.units[index] * sign
    state.in_use = state.in_use + units
    if state.settings.rate_max then state.begun_units = state.begun_units + units end
  end
end
function limits.reserve(step, uses) take_units(step, uses, 1) end
function limits.release(step, uses) take_units(step, uses, -1) end

-- A task whose units are reserved has started.
function limits.start(step, uses, ref)
  local all = all_of(step)
  for index, name in ipairs(uses.names) do
    local state = all.states[name]
    local size = #state.begun
    state.begun[size + 1], state.begun[size + 2] = ref, uses.units[index]
    all.changed[name] = state
  end
end

-- A lease ends; `usage` has the units that the task used in fact, as JSON, or ''.
function limits.leave(step, ref, extras, started_at, usage)
  local uses = limits.uses_of(step, extras)
  if not uses then return end
  local all, used = all_of(step), usage and usage ~= '' and cjson.decode(usage) or {}
  for index, name in ipairs(uses.names) do
    append(all.ended, name, ref)
    local more = (used[name] or uses.units[index]) - uses.units[index]
    if more ~= 0 then all.corrections[#all.corrections + 1] = { name = name, at = started_at, more = more } end
  end
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

-- Returns the units of the leases that ended. It runs before claims. Only units that were counted are returned: a
-- process of the previous version starts tasks without that.
function limits.write_ended(step)
  local all, names = step.of_limits, {}
  if not all then return end
  for name in pairs(all.ended) do names[#names + 1] = name end
  local states = load(step, names)
  for name, refs in pairs(all.ended) do
    local using, gone, freed = step.prefix .. KEY.using .. name, {}, 0
    for from = 1, #refs, CHUNK do
      local to = math.min(from + CHUNK - 1, #refs)
      for place, units in ipairs(call('HMGET', using, unpack(refs, from, to))) do
        if units then gone[#gone + 1], freed = refs[from + place - 1], freed + units end
      end
    end
    many('HDEL', using, gone)
    states[name].in_use = math.max(states[name].in_use - freed, 0)
    all.changed[name], all.touched[name] = states[name], true
  end
  for _, one in ipairs(all.corrections) do correct(step, states[one.name], one.at, one.more) end
  all.ended, all.corrections = {}, {}
end

-- Changes the number of unfinished tasks (`#`), or of those that are not ready (`~`), of the limits that a task uses.
function limits.count(step, what, extras, change)
  if not limits.are_in(extras) then return end
  local uses, numbers = limits.uses_of(step, extras), all_of(step).numbers
  for _, name in ipairs(uses and uses.names or {}) do numbers[what .. name] = (numbers[what .. name] or 0) + change end
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

-- Writes what a step has changed; it runs at the end of each step.
function limits.write(step)
  local all, now, set, removed = step.of_limits, step.prefix .. KEY.limits_now, {}, {}
  for name, state in pairs(all.changed) do
    many('HSET', step.prefix .. KEY.using .. name, state.begun)
    state.begun = {}
    local size = #set
    if state.in_use > 0 then
      set[size + 1], set[size + 2] = '+' .. name, string.format('%d', state.in_use)
    else
      removed[#removed + 1] = '+' .. name
    end
    if state.begun_units > 0 then log_starts(step, state) end
  end
  for field, change in pairs(all.numbers) do
    if change ~= 0 and call('HINCRBY', now, field, string.format('%d', change)) <= 0 then
      removed[#removed + 1] = field
    end
  end
  many('HSET', now, set)
  many('HDEL', now, removed)
  all.changed, all.numbers = {}, {}
end

end
