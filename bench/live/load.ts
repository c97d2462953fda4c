import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { pino } from 'pino'
import { createLive } from '../../src/notify/create-live.ts'
import { openQueue } from '../../src/queue/open.ts'
import { completeSpec } from '../../src/task/task.ts'
import { numbered, PAYLOAD, workUntil } from '../contenders/contender.ts'
import { contend } from '../contenders/xqueue.ts'

/**
 * Processes tasks in a process of its own, with status over MQTT: `load.ts <database> <mqtt> <count>`. Says where its
 * broker is and the id of one of its tasks, begins when told `go`, says when the tasks have ended, and ends when told
 * `stop`, with the CPU that it took.
 */
const [, , file, mqtt, count] = process.argv
const engine = await openQueue(`sqlite:${file}`, { retention: { ageMs: 86_400_000, countMax: 10_000_000 } })
const contender = await contend(engine)
for (let submitted = 0; submitted < Number(count); submitted += 1_000) await contender.submit(numbered(1_000))
const [watched] = await engine.submit([completeSpec({ type: 'bench', payload: PAYLOAD, priority: 9 })])

const live =
  mqtt === 'off'
    ? null
    : await createLive({
        queue: engine,
        logger: pino({ level: 'error' }),
        mqtt: mqtt!,
        prefix: 'xqueue',
        qos: 1,
        retain: true,
        clientId: null,
        host: '127.0.0.1',
        port: 0,
        origins: [],
        instanceId: randomUUID(),
        workerId: null,
        retentionMs: 86_400_000,
        stats: async () => ({}),
      })
await live?.start(null)
while (live && !/mqtts?:/.test(live.check().detail)) await new Promise((resolve) => setTimeout(resolve, 20))
const url = live && /mqtt:\/\/[\d.:]+/.exec(live.check().detail)![0]
process.send!({ url, id: watched!.task.id })
await once(process, 'message')
const [cpu, started] = [process.cpuUsage(), performance.now()]
const stop = await workUntil(contender, 100, Number(count) + 1)
process.send!({ tasksPerS: (Number(count) / (performance.now() - started)) * 1_000 })
await once(process, 'message')
const { user, system } = process.cpuUsage(cpu)
process.send!({ cpuUs: user + system })
await stop()
await live?.stop()
await engine.close()
process.exit(0)
