-- The API keys, and the secret that tokens are signed with; kept in the first partition.
--
-- ARGV  now, a new secret, kept if there is none yet; number of keys to drop, the id of each;
--       the id of a key to add or '', the key as JSON
-- Returns {secret, each key as JSON}
-- Cost  three to five commands; grows with the number of keys
function steps.keys()
  call('SET', P .. KEY.secret, arg(), 'NX')
  for _ = 1, number() do call('HDEL', P .. KEY.api_keys, arg()) end
  local id, json = arg(), arg()
  if id ~= '' then call('HSET', P .. KEY.api_keys, id, json) end
  return { call('GET', P .. KEY.secret), unpack(call('HVALS', P .. KEY.api_keys)) }
end
