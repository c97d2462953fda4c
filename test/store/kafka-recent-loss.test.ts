import { readdirSync, statSync, truncateSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, expect, it, vi } from 'vitest'
import { createQueue } from '../../src/queue/create-queue.ts'
import { readNamed } from '../../src/queue/event-reader.ts'
import type { Queue } from '../../src/queue/queue.ts'
import { parseKafkaUrl } from '../../src/store/kafka/client/kafka-url.ts'
import { KafkaStore } from '../../src/store/kafka/kafka-store.ts'
import { openStore } from '../../src/store/open.ts'
import type { State } from '../../src/store/state.ts'
import { type EventsPage, STORE_DEFAULTS } from '../../src/store/store.ts'
import type { Outcome } from '../../src/task/outcome.ts'
import { completeSpec, type TaskSpec } from '../../src/task/task.ts'
import { closeAfterwards } from '../fixtures/closing.ts'
import { type RunningKafka, startKafka } from '../fixtures/kafka.ts'
import { startRedis } from '../fixtures/redis.ts'

const WORKER = { id: 'w', host: 'h', pid: 1, types: ['t'], concurrency: 9, startedAt: 0 }
const UNAVAILABLE = { code: 'engine_unavailable' }
const PATIENCE = { timeout: 20_000 }
/** Tasks of a partition that are in view; if the first of so many does not end, it is parked. */
const WINDOW = 4_096

/** The calls after which the state may lose data. */
const AT_CALLS = ['locate', 'get', 'turn', 'change', 'events']

/** A call of the state, and what it answers. */
interface Call {
  method: string
  args: unknown[]
  answer: unknown
}

let kafka: RunningKafka
let queues = 0
beforeAll(async () => {
  kafka = await startKafka()
})

/** A queue whose state loses everything since `remember`, as a Redis does that fails over. */
async function openLossy() {
  const redis = await startRedis('--appendonly', 'yes', '--appendfsync', 'always')
  const url = parseKafkaUrl(`kafka://${kafka.address}?partitions=1&prefix=lossy${++queues}&state=${redis.url}`)
  const folder = join(redis.folder, 'appendonlydir')
  const file = () => join(folder, readdirSync(folder).find((name) => name.endsWith('.incr.aof'))!)
  const lost = Promise.withResolvers<void>()
  let remembered = 0
  let moment: (call: Call) => boolean = () => false
  let relay = Promise.resolve()
  const lose = async () => {
    moment = () => false
    await redis.kill()
    truncateSync(file(), remembered)
    await redis.start()
    lost.resolve()
  }
  const open = (await openStore(url.state, { isState: true }, readNamed)) as State
  const state = new Proxy(open, {
    get(target, name) {
      const method = Reflect.get(target, name, target)
      if (typeof method !== 'function') return method
      if (!AT_CALLS.includes(String(name))) return method.bind(target)
      return async (...args: unknown[]) => {
        if (name === 'events' && (args[0] as { waitMs?: number }).waitMs) await relay
        const answer = await method.apply(target, args)
        if (moment({ method: String(name), args, answer })) await lose()
        return answer
      }
    },
  })
  const queue = createQueue(await KafkaStore.open(url, STORE_DEFAULTS, state, readNamed(state)))
  closeAfterwards(() => queue.close())
  await queue.configureType('t', { declared: true })
  // The type's lane exists in what is remembered.
  const [first] = await submit(queue)
  await end(queue, await claim(queue), { kind: 'success', result: null }, true)
  await vi.waitFor(async () => expect(await queue.get([first!])).toMatchObject([{ status: 'success' }]), PATIENCE)
  return {
    queue,
    lost: lost.promise,
    remember: () => {
      remembered = statSync(file()).size
    },
    /** It loses the rest after the first such call, before the answer arrives. */
    loseAfter: (when: typeof moment) => {
      moment = when
    },
    /** Nothing is written to Kafka until the loss. */
    holdRelay: () => {
      relay = lost.promise
    },
  }
}

async function submit(queue: Queue, count = 1, more: Partial<TaskSpec> = {}): Promise<string[]> {
  const specs = Array.from({ length: count }, () => completeSpec({ type: 't', ...more }))
  return (await queue.submit(specs)).map(({ task }) => task.id)
}

async function claim(queue: Queue): Promise<string> {
  const { leases } = await queue.turn({ worker: WORKER, want: 1, waitMs: 20_000 })
  return leases[0]!.lease
}

function end(queue: Queue, lease: string, outcome: Outcome, durable = false) {
  return queue.turn({ worker: WORKER, want: 0, outcomes: [{ lease, outcome }], durable })
}

async function expectPending(queue: Queue, ids: readonly string[]): Promise<void> {
  await vi.waitFor(async () => {
    const tasks = await queue.get(ids)
    expect(tasks.filter((task) => task?.status !== 'pending').length).toBe(0)
  }, PATIENCE)
}

it('restores a task whose end the state has lost while its lane was being checked', async () => {
  const { queue, lost, remember, loseAfter, holdRelay } = await openLossy()
  remember()
  holdRelay()
  const ids = await submit(queue)
  loseAfter(({ method, answer }) => method === 'locate' && (answer as string[]).includes('finished'))
  await end(queue, await claim(queue), { kind: 'success', result: null })
  await lost
  await expectPending(queue, ids)
})

it('restores a task that the state has lost while its events were being written', async () => {
  const { queue, lost, remember, loseAfter } = await openLossy()
  remember()
  const ids = await submit(queue)
  // The relay has read that it ended, and finds no such task.
  loseAfter(({ method, answer }) => {
    return method === 'events' && (answer as EventsPage).events.some(({ status }) => status === 'success')
  })
  await end(queue, await claim(queue), { kind: 'success', result: null })
  await lost
  await expectPending(queue, ids)
})

it('restores tasks that the state has lost while they were being parked', async () => {
  const { queue, lost, remember, loseAfter } = await openLossy()
  remember()
  loseAfter(({ method, answer }) => method === 'locate' && (answer as string[]).length > 500)
  const ids = await submit(queue, WINDOW + 100, { delayMs: 3_600_000 })
  await lost
  await expectPending(queue, ids)
}, 60_000)

it('does not confirm an outcome that the state has lost', async () => {
  const { queue, remember, loseAfter } = await openLossy()
  await submit(queue)
  const lease = await claim(queue)
  remember()
  loseAfter(({ method }) => method === 'turn')
  await expect(end(queue, lease, { kind: 'success', result: null }, true)).rejects.toMatchObject(UNAVAILABLE)
})

it('does not confirm a cancel that the state has lost', async () => {
  const { queue, remember, loseAfter } = await openLossy()
  const [id] = await submit(queue)
  remember()
  loseAfter(({ method }) => method === 'change')
  await expect(queue.cancel({ ids: [id!] })).rejects.toMatchObject(UNAVAILABLE)
})
