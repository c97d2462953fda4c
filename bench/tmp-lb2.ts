import { loadScripts } from '/work/main/src/engine/redis/scripts.ts'
import { redisPlace } from '/work/main/src/engine/redis/place.ts'
import { createClient } from '@redis/client'
const s = loadScripts(redisPlace('redis://x'))
const c = createClient({ url: 'redis://127.0.0.1:7799' }); await c.connect()
await c.flushAll()
const run = (name: keyof typeof s, args: string[]) => c.eval(s[name].text, { keys: ['xq:{0}:'], arguments: ['', ...args] })
await run('configure', ['t', '1', '0.2,1000', '1', '1000', '0.2,1000', '', '{}', '', '', ''])
const head = ['proc', '5000', '86400000', '0']
const turn = (renewals: string[], outcomes: string[][], want: number, types: string[]) => [...head, '1', 'w1', '"w1"', '', '', '30000', '0', String(outcomes.length), ...outcomes.flat(), String(want), '', String(types.length), ...types]
const submit = (n: number) => run('submit', ['', '1000000000', '86400000', '', '1', '1', 't', '0', '600000,300000,3', String(n), ...Array.from({ length: n }, () => ['1', '{"a":1,"text":"hello hello hello hello hello hello hello hello hello hello hello hello"}']).flat()])
const stat = async (what: string, n: number, f: () => Promise<unknown>) => {
  const cpu = async () => Number(/used_cpu_user:(\S+)/.exec(await c.info('cpu'))![1])
  const before = await cpu()
  const sh = s.turn.sha; await c.scriptLoad(s.turn.text)
  for (let i = 0; i < n; i++) await f()
  const t = (((await cpu()) - before) * 1e6) / n
  console.log(what.padEnd(14), t.toFixed(1))
}
const go = (a: string[]) => c.evalSha(s.turn.sha, { keys: ['xq:{0}:'], arguments: ['', ...a] }) as Promise<any>
for (let r = 0; r < 4; r++) {
  await stat('idle', 10000, () => go(turn([], [], 0, [])))
  await stat('want1 empty', 10000, () => go(turn([], [], 1, ['t'])))
  for (let i = 0; i < 20; i++) await submit(1000)
  const refs: string[] = []
  await stat('claim 1', 900, async () => { const [, , [[, , tasks]]] = await go(turn([], [], 1, ['t'])); refs.push(`${tasks[3]}.${tasks[4]}`) })
  await stat('settle 1', 900, () => go(turn([], [['S', refs.shift()!, '1', '{"ok":true}']], 0, [])))
  await stat('claim 100', 9, async () => { const [, , [[, , tasks]]] = await go(turn([], [], 100, ['t'])); for (let i = 4; i < tasks.length; i += 2) refs.push(`${tasks[3]}.${tasks[i]}`) })
  await stat('settle 100', 9, () => go(turn([], refs.splice(0, 100).map((ref) => ['S', ref, '1', '{"ok":true}']), 0, [])))
}
c.destroy()
