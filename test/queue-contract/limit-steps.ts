import { expect } from 'vitest'
import type { Lease, LimitChange } from '../../src/queue/queue.ts'
import type { TaskSpec } from '../../src/task/task.ts'
import type { Uses } from '../../src/task/uses.ts'
import type { Fixture } from './fixture.ts'

/** Short forms of the steps with named limits. Payloads name the tasks. */
export function limitSteps(fixture: Fixture) {
  const { submit, claim } = fixture
  const set = (name: string, change: LimitChange) => fixture.queue.configureLimit(name, change)
  const add = async (name: string, uses: Uses, more: Partial<TaskSpec> = {}) =>
    (await submit({ payload: name, uses, ...more })).id
  const names = (leases: readonly Lease[]) => leases.map(({ task }) => task.payload).join(' ')
  const next = async (want = 9) => names(await claim(want))
  const facts = async (name: string) => {
    const found = await fixture.queue.limits({ names: [name], holders: true })
    expect(found).toHaveLength(1)
    return found[0]!
  }
  const code = (promise: Promise<unknown>) =>
    promise.then(
      () => 'done',
      (error: { code: string }) => error.code,
    )
  return { set, add, names, next, facts, code }
}
