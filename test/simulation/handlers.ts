import { DoNotRetry, RateLimited, RetryAfter } from '../../src/task/retry.ts'
import { pause } from '../../src/task/time.ts'
import type { CrashableRuntime } from '../../src/testing/crashable-runtime.ts'
import type { HandlerContext, TaskWith } from '../../src/worker/handler.ts'
import { normalizeHandlers, type RegisteredHandler } from '../../src/worker/handlers.ts'
import { resultOf } from '../faults/history.ts'
import type { LeaseTokens } from '../faults/recorded-queue.ts'
import type { SeededRandom } from './random.ts'
import type { World } from './world.ts'

/**
 * Handlers that do what handlers do: end at once or late, report progress, throw, hang, and take their worker along.
 */
export function drawnHandlers(
  world: World,
  runtime: CrashableRuntime,
  random: SeededRandom,
  die: () => void,
  tokens: LeaseTokens,
): ReadonlyMap<string, RegisteredHandler> {
  const { plan, time } = world
  const sleep = (ms: number) => pause(ms, runtime.time.after)
  const run = async (task: TaskWith<unknown>, { signal, progress }: HandlerContext) => {
    const lease = tokens.take({ ...task, startedAt: task.startedAt?.getTime() ?? null })
    world.write({ what: 'started', lease, at: time.now() })
    if (random.chance(plan.faults.diesWithin)) runtime.time.after(random.between(1, 30), die)
    if (random.chance(plan.quick)) return resultOf(lease)
    await sleep(random.between(1, 20))
    if (random.chance(0.2)) progress(random.between(0, 100))
    switch (random.between(0, 9)) {
      case 0:
        throw new Error('as it happens')
      case 1:
        throw new DoNotRetry('no use')
      case 2:
        throw new RetryAfter(`${random.between(1, 500)}ms`)
      case 3:
        // Longer than a lease, which is renewed meanwhile.
        await sleep(random.between(1, plan.leaseMs * 2))
        break
      case 4:
        // Until its signal is aborted, or its worker gives it up.
        await Promise.race([aborted(signal), sleep(plan.leaseMs * 4)])
        signal.throwIfAborted()
        break
      case 6: {
        const [limit] = Object.keys(task.uses)
        if (limit && random.chance(0.5)) throw new RateLimited({ limit, for: '1s' })
        break
      }
      case 5:
        // Does not listen.
        await sleep(plan.leaseMs * 3)
    }
    return resultOf(lease)
  }
  return normalizeHandlers(
    Object.fromEntries(Object.keys(plan.types).map((type) => [type, { run, ...limitsOf(world, type) }])),
  )
}

function limitsOf({ plan }: World, type: string) {
  const { maxConcurrency: concurrency, groupConcurrency, groupTurns, rate } = plan.types[type]!
  const retry = { base: '20ms', cap: '100ms' }
  return { concurrency, groupConcurrency, groupTurns, rate: rate && { max: rate.max, per: `${rate.perMs}ms` }, retry }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
}
