import { readdirSync, statSync, truncateSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { beforeAll, describe, expect, it, vi } from 'vitest'
import { createQueue } from '../../src/queue/create-queue.ts'
import { readNamed } from '../../src/queue/event-reader.ts'
import type { Queue } from '../../src/queue/queue.ts'
import type { DocumentsStep } from '../../src/store/documents.ts'
import { parseKafkaUrl } from '../../src/store/kafka/client/kafka-url.ts'
import { KafkaStore } from '../../src/store/kafka/kafka-store.ts'
import { openStore } from '../../src/store/open.ts'
import type { State } from '../../src/store/state.ts'
import { type EventsPage, STORE_DEFAULTS } from '../../src/store/store.ts'
import type { Outcome } from '../../src/task/outcome.ts'
import { completeSpec, type TaskSpec } from '../../src/task/task.ts'
import { closeAfterwards } from '../fixtures/closing.ts'
import { type RunningKafka, startKafka } from '../fixtures/kafka.ts'
import { redisCli, startRedis } from '../fixtures/redis.ts'

const WORKER = { id: 'w', host: 'h', pid: 1, types: ['t'], concurrency: 9, startedAt: 0 }
const UNAVAILABLE = { code: 'engine_unavailable' }
const PATIENCE = { timeout: 20_000 }
/** Tasks of a partition that are in view; if the first of so many does not end, it is parked. */
const WINDOW = 4_096

/** The calls after which the state may lose data. */
const AT_CALLS = [
  ...['locate', 'get', 'turn', 'change', 'events', 'submitWith', 'documents', 'configureType', 'configureLimit'],
]

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

/** A queue whose state loses everything since `remember`, as a Redis does that fails over, or simply everything. */
async function openLossy() {
  const redis = await startRedis('--appendonly', 'yes', '--appendfsync', 'always')
  const url = parseKafkaUrl(`kafka://${kafka.address}?partitions=1&prefix=lossy${++queues}&state=${redis.url}`)
  const folder = join(redis.folder, 'appendonlydir')
  const file = () => join(folder, readdirSync(folder).find((name) => name.endsWith('.incr.aof'))!)
  const lost = Promise.withResolvers<void>()
  let remembered: number | null = null
  let moment: (call: Call) => boolean = () => false
  let momentBefore: (call: Omit<Call, 'answer'>) => boolean = () => false
  let relay = Promise.resolve()
  const lose = async () => {
    moment = () => false
    momentBefore = () => false
    if (remembered === null) redisCli(redis.port, 'FLUSHALL')
    else {
      await redis.kill()
      truncateSync(file(), remembered)
      await redis.start()
    }
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
        if (momentBefore({ method: String(name), args })) await lose()
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
    flush: () => redisCli(redis.port, 'FLUSHALL'),
    remember: () => {
      remembered = statSync(file()).size
    },
    /** It loses the rest after the first such call, before the answer arrives. */
    loseAfter: (when: typeof moment) => {
      moment = when
    },
    loseBefore: (when: typeof momentBefore) => {
      momentBefore = when
    },
    /** Nothing is written to Kafka until the loss. */
    holdRelay: () => {
      relay = lost.promise
    },
  }
}

type LossyQueue = Awaited<ReturnType<typeof openLossy>>

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

/** A task that is restored after the state has lost its end, which the check of its lane had seen. */
async function restoredDuringCheck({ queue, lost, loseAfter, holdRelay }: LossyQueue): Promise<string[]> {
  holdRelay()
  const ids = await submit(queue)
  loseAfter(({ method, answer }) => method === 'locate' && (answer as string[]).includes('finished'))
  await end(queue, await claim(queue), { kind: 'success', result: null })
  await lost
  await expectPending(queue, ids)
  return ids
}

it('restores a task whose end the state has lost while its lane was being checked', async () => {
  const lossy = await openLossy()
  lossy.remember()
  await restoredDuringCheck(lossy)
})

it('restores a task again whose end the state has lost with everything while its lane was being checked', async () => {
  const lossy = await openLossy()
  const ids = await restoredDuringCheck(lossy)
  // Its place in the lane would be committed by now.
  await sleep(2_000)
  lossy.flush()
  await expectPending(lossy.queue, ids)
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
  const { queue, lost, remember, loseBefore } = await openLossy()
  remember()
  // Tasks are read from the state to be parked, and are gone.
  loseBefore(({ method, args }) => method === 'get' && (args[0] as string[]).length > 100)
  const ids = await submit(queue, WINDOW + 100, { delayMs: 3_600_000 })
  await lost
  await expectPending(queue, ids)
}, 60_000)

const LOSSES = { 'recent data': true, everything: false }

describe.each(Object.entries(LOSSES))('a state that loses %s', (_, isRecent) => {
  const opened = async (method: string, before?: (queue: Queue) => Promise<string>, when = (_: Call) => true) => {
    const { queue, remember, loseAfter } = await openLossy()
    const given = (await before?.(queue)) ?? ''
    if (isRecent) remember()
    loseAfter((call) => call.method === method && when(call))
    return { queue, given }
  }
  const submitOne = async (queue: Queue) => (await submit(queue))[0]!
  const submitAndClaim = async (queue: Queue) => {
    const id = await submitOne(queue)
    return `${id} ${await claim(queue)}`
  }

  it('does not confirm an outcome', async () => {
    const { queue, given } = await opened('turn', submitAndClaim)
    const answer = end(queue, given.split(' ')[1]!, { kind: 'success', result: null }, true)
    await expect(answer).rejects.toMatchObject(UNAVAILABLE)
  })

  it('does not confirm the cancel of a waiting task', async () => {
    const { queue, given } = await opened('change', submitOne)
    await expect(queue.cancel({ ids: [given] })).rejects.toMatchObject(UNAVAILABLE)
  })

  it('does not confirm the cancel of a running task', async () => {
    const { queue, given } = await opened('change', submitAndClaim)
    const [id] = given.split(' ')
    const cancel = queue.cancel({ ids: [id!] })
    // Without the state there is no task to record as canceled: then it is not confirmed, or the record is in Kafka.
    await expect(cancel).rejects.toMatchObject(UNAVAILABLE)
  })

  it('does not confirm the run of a schedule', async () => {
    const { queue } = await opened('submitWith', (open) => addSchedule(open))
    await expect(queue.schedules({ run: 's' })).rejects.toMatchObject(UNAVAILABLE)
  })

  it('does not confirm a schedule, nor that one is removed', async () => {
    const isChange = ({ args }: Call) => (args[0] as DocumentsStep).changes?.[0]?.kind === 'schedule'
    const first = await opened('documents', undefined, isChange)
    await expect(addSchedule(first.queue)).rejects.toMatchObject(UNAVAILABLE)
    const second = await opened('documents', addSchedule, isChange)
    await expect(second.queue.schedules({ drop: 's' })).rejects.toMatchObject(UNAVAILABLE)
  })

  it('does not confirm a change of a type or of a limit', async () => {
    const first = await opened('configureType')
    await expect(first.queue.configureType('t', { paused: true })).rejects.toMatchObject(UNAVAILABLE)
    const second = await opened('configureLimit')
    await expect(second.queue.configureLimit('l', { max: 1 })).rejects.toMatchObject(UNAVAILABLE)
  })
})

async function addSchedule(queue: Queue): Promise<string> {
  const { delayMs: _delay, runAt: _runAt, idempotencyKey: _key, ...task } = completeSpec({ type: 't' })
  const rest = { catchUp: 'one', overlap: 'allow', paused: false } as const
  await queue.schedules({ add: { id: 's', task, timing: { everyMs: 3_600_000 }, ...rest } })
  return 's'
}
