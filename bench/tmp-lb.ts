import { execFileSync } from 'node:child_process'
import { loadScripts } from '/work/main/src/engine/redis/scripts.ts'
import { redisPlace } from '/work/main/src/engine/redis/place.ts'
import { readFileSync } from 'node:fs'
import { createClient } from '/work/main/node_modules/@redis/client/dist/index.js'
const s = loadScripts(redisPlace('redis://x'))
const shared = s.look.text.slice(0, s.look.text.indexOf('-- Looks tasks up'))
const calls = (n: number) => shared.split('\n')[0] + '\nlocal call=redis.call\n' + Array.from({ length: n }, () => `call('EXISTS', KEYS[1])`).join('\n') + '\nreturn 1'
const variants: Record<string, string> = { nothing: 'return 1', shebang: '#!lua\nreturn 1', shared: shared + '\nreturn 1', sharedturn: s.turn.text.slice(0, s.turn.text.indexOf('-- The step ---')) .replace('local turns = {}\nfor index = 1, number()','local turns={} for index=1,0').replace("local process, grace_ms, retention_ms = arg(), number(), number()","local process,grace_ms,retention_ms=1,1,1").replace("for index = 1, number() do woken_in_vain[index] = arg() end","") + '\nreturn 1', calls10: calls(10), calls30: calls(30) }
const c = createClient({ url: 'redis://127.0.0.1:7799' }); await c.connect()
for (let round = 0; round < 2; round++) for (const [name, text] of Object.entries(variants)) {
  const sha = await c.scriptLoad(text)
  await c.sendCommand(['config', 'resetstat'])
  for (let i = 0; i < 3000; i++) await c.evalSha(sha, { keys: ['xq:{0}:'], arguments: [''] })
  const t = await c.sendCommand(['info', 'commandstats']) as string
  console.log(name, /cmdstat_evalsha:(.*)/.exec(t)![1])
}
c.destroy()
