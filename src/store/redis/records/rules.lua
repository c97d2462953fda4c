-- The rules of a type, in `rules`, and the log of its starts; a part of the code that all steps share.
--
-- `paused,limit,source,limit of a group,source,rate's max,window,source`; a source is h (handler) or o (operator). A
-- type without rules is not handed out.
local NEW_RULES = '0,,h,,h,,,h'

-- Limits are texts, '' for none.
local function unpack_rules(text)
  local paused, limit, limit_by, group_limit, group_limit_by, rate_max, rate_per_ms, rate_by =
    text:match('^(%d),(%d*),(%l),(%d*),(%l),(%d*),(%d*),(%l)$')
  return {
    paused = paused, limit = limit, limit_by = limit_by, group_limit = group_limit, group_limit_by = group_limit_by,
    rate_max = rate_max, rate_per_ms = rate_per_ms, rate_by = rate_by,
  }
end

-- An entry of the log: when, and how many tasks started.
local function pack_starts(at_ms, starts) return at_ms .. ',' .. starts end
local function unpack_starts(text) return text:match('^(%d+),(%d+)$') end

-- A store that has lost everything (FLUSHDB) is incomplete until all processes have declared their handlers again,
-- which they do as soon as they are notified of the loss. Until then a type without rules is not handed out, and an
-- unknown type is not reported as unknown. `was_here`: '1' from a process that has used the store before.
local function has_lost(step, was_here)
  local prefix = step.prefix
  local birth = call('GET', prefix .. KEY.birth)
  if not birth then
    birth = was_here == '1' and step.now_text or '0'
    call('SET', prefix .. KEY.birth, birth)
    if was_here == '1' then broadcast(step, 'lost') end
  end
  local redeclared_within_ms = 10000
  return tonumber(birth) + redeclared_within_ms > step.now
end
