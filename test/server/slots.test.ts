import { setImmediate as nextPass } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { Slots } from '../../src/server/slots.ts'

async function somePasses(): Promise<void> {
  for (let pass = 0; pass < 20; pass++) await nextPass()
}

it('runs so many jobs at the same time, the others in their order, also after failures', async () => {
  const slots = new Slots(2, 60_000)
  const [begun, ends] = [[] as number[], [] as PromiseWithResolvers<number>[]]
  const jobs = [0, 1, 2, 3].map((number) => {
    const end = Promise.withResolvers<number>()
    ends.push(end)
    return slots.run(() => {
      begun.push(number)
      return end.promise
    })
  })
  expect(begun).toEqual([0, 1])
  ends[1]!.reject(new Error('failed'))
  await expect(jobs[1]).rejects.toThrow('failed')
  await somePasses()
  expect(begun).toEqual([0, 1, 2])
  ends[0]!.resolve(0)
  expect(await jobs[0]).toBe(0)
  await somePasses()
  expect(begun).toEqual([0, 1, 2, 3])
  for (const { resolve } of ends) resolve(7)
  expect(await Promise.all(jobs.slice(2))).toEqual([7, 7])
  await somePasses()
  const more = [slots.run(async () => begun.push(4)), slots.run(async () => begun.push(5))]
  expect(begun.slice(4)).toEqual([4, 5])
  await Promise.all(more)
})

it('lets other calls run between two jobs', async () => {
  const slots = new Slots(1, 60_000)
  const seen: string[] = []
  const jobs = ['a', 'b', 'c'].map((name) => slots.run(async () => seen.push(name)))
  setImmediate(() => seen.push('another call'))
  await Promise.all(jobs)
  expect(seen.indexOf('another call')).toBeLessThan(2)
})

it('lets the event loop accept some connections between two jobs', async () => {
  const slots = new Slots(1, 60_000)
  let passes = 0
  const count = () => {
    passes += 1
    if (passes < 100) setImmediate(count)
  }
  const jobs = [slots.run(async () => count()), slots.run(async () => passes)]
  expect((await Promise.all(jobs))[1]).toBeGreaterThanOrEqual(10)
})

it('refuses a job that would wait for too long, and goes on with the others', async () => {
  const slots = new Slots(1, 500)
  const end = Promise.withResolvers<string>()
  const first = slots.run(() => end.promise)
  const late = { code: 'overloaded', details: { retry_after: 1 } }
  await expect(slots.run(async () => 'never')).rejects.toMatchObject(late)
  const third = slots.run(async () => 'third')
  end.resolve('first')
  expect(await Promise.all([first, third])).toEqual(['first', 'third'])
})
