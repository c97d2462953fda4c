import { globSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { temporaryFolder } from '../fixtures/folder.ts'
import { type Program, startProgram } from '../fixtures/program.ts'
import { expectKept, Load } from './load.ts'

const HOUR_S = 3_600
type Leased = { task: { id: string; deliveries: number; attempts: number } }
let folder: string
let clock: string
let load: Load | undefined
let program: Program | undefined

beforeEach(() => {
  folder = temporaryFolder()
  clock = join(folder, 'clock')
  step(0)
})
afterEach(async () => {
  await load?.stop()
  load = program = undefined
})

/** Every process that runs with `faked` sees the clock stepped at once; what measures durations goes on as before. */
const step = (seconds: number) => writeFileSync(clock, `${seconds < 0 ? '' : '+'}${seconds}`)

function faked(): Record<string, string> {
  const [library] = globSync('/usr/lib/*/faketime/libfaketime.so.1')
  const settings = { FAKETIME_TIMESTAMP_FILE: clock, FAKETIME_NO_CACHE: '1', FAKETIME_DONT_FAKE_MONOTONIC: '1' }
  return { LD_PRELOAD: library!, ...settings }
}

// It ends where the clock is latest: what was put off there is due by that clock.
it.each([
  ['forward by an hour, back, and forward again', [HOUR_S, 0, HOUR_S]],
  ['back by an hour, and forward again', [-HOUR_S, 0]],
])('continues when the clock is set %s', async (way, steps) => {
  load = await Load.start(`sqlite:${join(folder, 'x.db')}`, { rate: 200, env: faked() })
  await load.progress()
  for (const seconds of steps) {
    step(seconds)
    await load.progress()
  }
  const history = await load.finish()
  expectKept(`the clock ${way}`, { ...history, clockWentBack: true }, steps.length)
})

it('measures leases and delays by the clock: set forward it ends them, set back it prolongs them', async () => {
  program = await startProgram({
    guarded: true,
    before: ['env', ...Object.entries(faked()).map(([name, value]) => `${name}=${value}`)],
  })
  const call = program.call.bind(program)
  const submit = async (more: object) =>
    (await call('POST', '/tasks', { type: 'remote', queue_timeout: 0, ...more })).body.id
  const consume = async () => (await call('POST', '/tasks/consume', { types: ['remote'], max: 9 })).body.leases
  const running = await submit({ process_timeout: 0 })
  const [first] = await consume()
  expect(first.task).toMatchObject({ id: running, deliveries: 1 })
  const delayed = await submit({ delay: 1_800 })
  expect(await consume()).toEqual([])

  step(HOUR_S)
  const again: Leased[] = []
  await vi.waitFor(
    async () => {
      again.push(...(await consume()))
      expect(again).toHaveLength(2)
    },
    { timeout: 10_000 },
  )
  const tasks = again.map(({ task: { id, deliveries, attempts } }) => ({ id, deliveries, attempts }))
  expect(tasks).toContainEqual({ id: running, deliveries: 2, attempts: 0 })
  expect(tasks).toContainEqual({ id: delayed, deliveries: 1, attempts: 0 })
  expect((await call('POST', `/leases/${first.lease}/complete`, {})).status).toBe(410)
  const soon = await submit({ delay: 1 })

  step(0)
  expect((await call('GET', `/tasks/${soon}/explain`)).body).toMatchObject({ reason: 'delayed' })
  const atOnce = await submit({})
  const [lease] = await consume()
  expect(lease.task.id).toBe(atOnce)
  expect((await call('POST', `/leases/${lease.lease}/complete`, {})).status).toBe(200)
})
