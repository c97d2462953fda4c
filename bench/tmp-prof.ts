import { Session } from 'node:inspector/promises'
import { writeFileSync } from 'node:fs'
const [, , name, port, conc, count] = process.argv
const { open } = await import(`./contenders/${name}.ts`)
const c = await open(port!)
const s = new Session(); s.connect()
await s.post('Profiler.enable'); await s.post('Profiler.setSamplingInterval', { interval: 100 })
if (conc === 'submit') {
  await c.submitBatch(1000)
  await s.post('Profiler.start')
  let left = Number(count)
  await Promise.all(Array.from({ length: 100 }, async () => { while (left-- > 0) await c.submitOne() }))
} else {
  for (let i = 0; i < Number(count); i += 1000) await c.submitBatch(1000)
  await s.post('Profiler.start')
  await c.work(Number(conc), Number(count))
}
const { profile } = await s.post('Profiler.stop')
writeFileSync('/tmp/p.cpuprofile', JSON.stringify(profile))
process.exit(0)
