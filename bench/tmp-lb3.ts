import { loadScripts } from '/work/main/src/engine/redis/scripts.ts'
import { redisPlace } from '/work/main/src/engine/redis/place.ts'
import { createClient } from '@redis/client'
const s = loadScripts(redisPlace('redis://x'))
const c = createClient({ url: 'redis://127.0.0.1:7799' }); await c.connect()
const shared = s.look.text.slice(0, s.look.text.indexOf('-- Looks tasks up'))
const head = ['proc', '5000', '86400000', '0']
const idle = [...head, '1', 'w1', '"w1"', '', '', '30000', '0', '0', '0', '', '0']
const variants: Record<string, [string, string[]]> = { one: ['return 1', []], onewithargs: ['return 1', idle], shared: [shared + '\nreturn 1', []], turnIdle: [s.turn.text, idle] }
const cpu = async () => Number(/used_cpu_user:(\S+)/.exec(await c.info('cpu'))![1])
for (let round = 0; round < 4; round++) {
  const out: string[] = []
  for (const [name, [text, args]] of Object.entries(variants)) {
    const sha = await c.scriptLoad(text); const n = 5000
    const b = await cpu()
    for (let i = 0; i < n / 50; i++) await Promise.all(Array.from({ length: 50 }, () => c.evalSha(sha, { keys: ['xq:{0}:'], arguments: ['', ...args] })))
    out.push(`${name} ${((((await cpu()) - b) * 1e6) / n).toFixed(1)}`)
  }
  console.log(out.join('  '))
}
c.destroy()
