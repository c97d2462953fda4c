import { execFileSync } from 'node:child_process'

const [, , name, port, conc, count] = process.argv
const cpu = () => {
  const t = execFileSync('redis-cli', ['-p', port!, 'info', 'cpu'], { encoding: 'utf8' })
  return Number(/used_cpu_user:(\S+)/.exec(t)![1]) + Number(/used_cpu_sys:(\S+)/.exec(t)![1])
}
execFileSync('redis-cli', ['-p', port!, 'flushall'])
const { open } = await import(`./contenders/${name}.ts`)
const c = await open(port!)
const n = Number(count)
const report = async (what: string, f: () => Promise<void>) => {
  const r0 = cpu(),
    u0 = process.cpuUsage(),
    t0 = performance.now()
  await f()
  const ms = performance.now() - t0
  const u = process.cpuUsage(u0)
  console.log(
    name,
    what.padEnd(10),
    `${((n / ms) * 1000) | 0}/s`,
    'node us/task',
    ((u.user + u.system) / n).toFixed(1),
    'redis us/task',
    (((cpu() - r0) * 1e6) / n).toFixed(1),
    'wall us',
    ((ms * 1000) / n).toFixed(1),
  )
}
await report('submit', async () => {
  for (let i = 0; i < n; i += 1000) await c.submitBatch(1000)
})
await report(`work ${conc}`, () => c.work(Number(conc), n))
await c.close()
process.exit(0)
