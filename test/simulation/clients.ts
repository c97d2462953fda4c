import type { XQueueError } from '../../src/task/errors.ts'
import { ON_FAILURE } from '../../src/task/flow.ts'
import { completeSpec, type TaskSpec } from '../../src/task/task.ts'
import { pause } from '../../src/task/time.ts'
import type { SeededRandom } from './random.ts'
import type { World } from './world.ts'

const TRY_AGAIN_MS_MAX = 100
/** No plan disconnects a client for longer. */
const TRIES_MAX = 1_000

/** Submits batches until each is acknowledged, always with the same keys, so lost answers create no second tasks. */
export async function submitAll(
  world: World,
  random: SeededRandom,
  client: number,
  groupOf: Map<string, string>,
): Promise<void> {
  const { plan, time } = world
  const host = world.runtime()
  for (let batch = 0; batch < plan.batches; batch++) {
    const specs = Array.from({ length: plan.batch }, (_, index) => {
      const spec = drawSpec(world, random, `${client}-${batch}-${index}`)
      return random.chance(plan.flows) ? { ...spec, ...drawFlow(random, index) } : spec
    })
    for (let accepted = false, tries = 1; !accepted; tries++) {
      try {
        for (const { task } of await host.queue.submit(specs)) {
          const { id, after, onFailure, idempotencyKey } = task
          world.write({ what: 'accepted', id, at: time.now(), key: idempotencyKey!, after, onFailure })
          if (task.group !== null) groupOf.set(task.id, task.group)
        }
        accepted = true
      } catch (error) {
        if ((error as XQueueError).code !== 'engine_unavailable' || tries === TRIES_MAX) throw error
        await pause(random.between(1, TRY_AGAIN_MS_MAX), time.after)
      }
    }
    world.figures.tasks += specs.length
    await pause(random.between(1, 200), time.after)
  }
}

/** A user that cancels, retries, changes limits and sets the clock. */
export async function interfere(world: World, random: SeededRandom): Promise<void> {
  const { plan, time, queue } = world
  const { faults, types } = plan
  const actions = random.between(0, 6)
  for (let action = 0; action < actions; action++) {
    await pause(random.between(1, 300), time.after)
    const accepted = world.lines.flatMap((line) => (line.what === 'accepted' ? [line.id] : []))
    if (accepted.length === 0) continue
    const which = { ids: [random.one(accepted)] }
    await (random.chance(0.6) ? queue.cancel(which) : queue.retry(which))
    if (faults.limitChanges) {
      const type = random.one(Object.keys(types))
      const most = types[type]!.maxConcurrency
      // Never above what the checker holds them to.
      if (most !== null) await queue.configureType(type, { maxConcurrency: random.between(1, most) })
    }
  }
  for (let step = 0; step < faults.clockSteps; step++) {
    await pause(random.between(1, 300), time.after)
    time.stepClock(
      faults.clockGoesBack && random.chance(0.5) ? -random.between(1, 400) : random.between(1, plan.leaseMs * 2),
    )
    world.figures.clockSteps += 1
  }
}

/** Waits for some that come before it in its batch. */
function drawFlow(random: SeededRandom, index: number): Pick<TaskSpec, 'after' | 'onFailure'> {
  const after = Array.from({ length: index }, (_, place) => place).filter(() => random.chance(0.5))
  return { after, onFailure: random.one(ON_FAILURE) }
}

function drawSpec({ plan }: World, random: SeededRandom, idempotencyKey: string): TaskSpec {
  const type = random.one(Object.keys(plan.types))
  const { processTimeoutMs, queueTimeoutMs } = plan.types[type]!
  return completeSpec({
    type,
    payload: null,
    priority: random.between(0, 2),
    maxRetry: random.between(0, 2),
    delayMs: random.chance(0.2) ? random.between(1, 300) : 0,
    group: random.one([null, 'g', 'h']),
    processTimeoutMs,
    queueTimeoutMs,
    idempotencyKey,
  })
}
