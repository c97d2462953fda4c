-- Reads and changes the API keys and the secret that signs tokens; both are kept in the first partition.
--
-- KEYS  the partition's prefix
-- ARGV  now, a new secret, stored if there is none yet; number of keys to delete, the id of each: their sessions are
--       deleted too; the id of a key to add or change or '', the key as JSON, '1' if it must exist already, or the id
--       of the key that opened the session and must exist, or ''
-- Returns {secret, each key as JSON}, or {} if the required key does not exist
-- Cost  three to five commands; grows with the number of keys
function steps.keys()
  call('SET', P .. KEY.secret, arg(), 'NX')
  local dropped = {}
  for _ = 1, number() do dropped[arg()] = true end
  if next(dropped) then
    local kept = call('HGETALL', P .. KEY.api_keys)
    for index = 1, #kept, 2 do
      local session = cjson.decode(kept[index + 1]).session
      local of = type(session) == 'table' and session.of
      if dropped[kept[index]] or (of and dropped[of]) then call('HDEL', P .. KEY.api_keys, kept[index]) end
    end
  end
  local id, json, needed = arg(), arg(), arg()
  if needed == '1' then needed = id end
  if needed ~= '' and call('HEXISTS', P .. KEY.api_keys, needed) == 0 then return {} end
  if id ~= '' then call('HSET', P .. KEY.api_keys, id, json) end
  return { call('GET', P .. KEY.secret), unpack(call('HVALS', P .. KEY.api_keys)) }
end
