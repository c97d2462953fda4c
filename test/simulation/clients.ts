import type { XQueueError } from '../../src/task/errors.ts'
import { ON_FAILURE } from '../../src/task/flow.ts'
import { completeSpec, type TaskSpec } from '../../src/task/task.ts'
import { pause } from '../../src/task/time.ts'
import type { Uses } from '../../src/task/uses.ts'
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
  usesOf: Map<string, Uses>,
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
          usesOf.set(task.id, task.uses)
        }
        accepted = true
      } catch (error) {
        const { code } = error as XQueueError
        // A limit that is lowered for a while refuses tasks that it would not let start.
        const isLowered = code === 'invalid_request' && Object.keys(plan.limits).length > 0
        if ((code !== 'engine_unavailable' && !isLowered) || tries === TRIES_MAX) throw error
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
    await changeLimit(world, random)
  }
  for (let step = 0; step < faults.clockSteps; step++) {
    await pause(random.between(1, 300), time.after)
    time.stepClock(
      faults.clockGoesBack && random.chance(0.5) ? -random.between(1, 400) : random.between(1, plan.leaseMs * 2),
    )
    world.figures.clockSteps += 1
  }
}

/** Pauses, holds or lowers a named limit for a while. */
async function changeLimit({ plan, time, queue }: World, random: SeededRandom): Promise<void> {
  const names = Object.keys(plan.limits)
  if (names.length === 0) return
  const name = random.one(names)
  const { max } = plan.limits[name]!
  switch (random.between(0, 2)) {
    case 0:
      await queue.configureLimit(name, { holdMs: random.between(1, 500) })
      return
    case 1:
      await queue.configureLimit(name, { paused: true })
      await pause(random.between(1, 500), time.after)
      await queue.configureLimit(name, { paused: false })
      return
    case 2:
      if (max === null) return
      await queue.configureLimit(name, { max: random.between(1, max) })
      await pause(random.between(1, 300), time.after)
      await queue.configureLimit(name, { max })
  }
}

function drawUses({ limits }: World['plan'], random: SeededRandom): Uses {
  const uses: Record<string, number> = {}
  for (const [name, { max, rate }] of Object.entries(limits)) {
    if (random.chance(0.4)) continue
    const most = Math.min(max ?? 3, rate?.max ?? 3)
    uses[name.replace('*', () => random.one(['a', 'b', 'c']))] = random.between(1, most)
  }
  return uses
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
    uses: drawUses(plan, random),
    processTimeoutMs,
    queueTimeoutMs,
    idempotencyKey,
  })
}
