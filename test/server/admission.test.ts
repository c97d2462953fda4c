import { beforeEach, expect, it } from 'vitest'
import { ADMISSION, Admission, type AdmissionLimits, type Overload } from '../../src/server/admission.ts'

/** Calls on a clock that the test moves, in passes of an event loop that the test ends. */

let now: number
let ends: (() => void)[]
let admission: Admission

beforeEach(() => {
  now = 1_000
  ends = []
})

function limitedBy(limits: Partial<AdmissionLimits>): void {
  admission = new Admission(
    { ...ADMISSION, ...limits },
    () => now,
    (end) => ends.push(end),
  )
}

function pass(ms: number): void {
  now += ms
  for (const end of ends.splice(0)) end()
}

const isRefused = (entered: number | Overload): entered is Overload => typeof entered === 'string'

/** The accepted ones of this many calls, and the reason for the others. */
function enter(count: number, bytes = 0): { accepted: number[]; reason: Overload | null } {
  const all = Array.from({ length: count }, () => admission.enter(bytes))
  return { accepted: all.filter((one) => !isRefused(one)) as number[], reason: all.find(isRefused) ?? null }
}

function answer(accepted: readonly number[], bytes = 0): void {
  for (const enteredAt of accepted) admission.answered(enteredAt, bytes)
}

/** Calls at once every 100 ms, each answered so much later. Returns the numbers that were accepted. */
function load(perStep: number, steps: number, answerMs: number): number[] {
  const underWay: { at: number; accepted: number[] }[] = []
  const counts = Array.from({ length: steps }, () => {
    const { accepted } = enter(perStep)
    underWay.push({ at: now + answerMs, accepted })
    pass(100)
    while (underWay[0] && underWay[0].at <= now) answer(underWay.shift()!.accepted)
    return accepted.length
  })
  for (const { accepted } of underWay) answer(accepted)
  return counts
}

it('accepts as many calls as may be without an answer', () => {
  limitedBy({ callsMax: 3 })
  const { accepted, reason } = enter(5)
  expect([accepted.length, reason, admission.calls]).toEqual([3, 'calls', 3])
  answer(accepted.slice(0, 1))
  expect(enter(5).accepted).toHaveLength(1)
})

it('accepts as many bytes as may be without an answer, and a single call of any size', () => {
  limitedBy({ bytesMax: 100 })
  const large = enter(2, 400)
  expect([large.accepted.length, large.reason]).toEqual([1, 'bytes'])
  answer(large.accepted, 400)
  const small = enter(5, 40)
  expect([small.accepted.length, small.reason]).toEqual([2, 'bytes'])
})

it('refuses the rest of many calls at once when their pass takes too long, and accepts again in the next one', () => {
  limitedBy({ waitMs: 500 })
  const calls = Array.from({ length: 400 }, () => {
    const entered = admission.enter(0)
    if (!isRefused(entered)) {
      now += 1
      admission.answered(entered, 0)
    }
    return entered
  })
  expect(calls.filter(isRefused)).toEqual(Array.from({ length: 149 }, () => 'delay'))
  pass(0)
  expect(enter(1).reason).toBe(null)
})

it('never refuses a few calls, also after the event loop was blocked for long', () => {
  limitedBy({ waitMs: 500 })
  answer(enter(1).accepted)
  now += 60_000
  expect(enter(99).reason).toBe(null)
})

it('accepts everything while answers come in time', () => {
  limitedBy({ waitMs: 500 })
  expect(load(2_000, 50, 200)).toEqual(Array.from({ length: 50 }, () => 2_000))
})

it('accepts fewer calls while most answers take too long, and all of them again soon after', () => {
  limitedBy({ waitMs: 500 })
  const slow = load(2_000, 50, 1_000)
  // Never fewer than 1,000 under way, which is 1,000 in each second here.
  const late = slow.slice(20).reduce((sum, count) => sum + count) / 3
  expect(late).toBeGreaterThanOrEqual(900)
  expect(late).toBeLessThan(6_000)
  pass(5_000)
  const fast = load(2_000, 50, 100)
  expect(fast.slice(20)).toEqual(Array.from({ length: 30 }, () => 2_000))
})
