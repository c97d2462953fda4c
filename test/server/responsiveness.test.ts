import { beforeAll, describe, expect, it } from 'vitest'
import { type Program, startProgram } from '../fixtures/program.ts'
import { type RunningRedis, startRedis } from '../fixtures/redis.ts'

/** The most that one call may submit, and that may wait for one task. */
const TASKS = 10_000
/** Calls of /live that always wait for their answers. */
const ASKERS = 4
/** A call that runs without a pause allows hardly any of them. */
const ANSWERS_MIN = 10

let redis: RunningRedis
beforeAll(async () => {
  redis = await startRedis()
})

describe.each(['SQLite', 'Redis'])('a server on %s answers /live while it carries out', (store) => {
  let program: Program
  beforeAll(async () => {
    program = await startProgram({ guarded: true, store: store === 'Redis' ? redis.url : undefined })
  })

  /** How often /live is answered between the beginning and the end of something. */
  async function answersDuring(work: () => Promise<unknown>): Promise<number> {
    let answers = 0
    let isOver = false
    const ask = async () => {
      while (!isOver) {
        expect((await fetch(`${program.url}/api/v1/live`)).status).toBe(200)
        if (!isOver) answers += 1
      }
    }
    const asking = Promise.all(Array.from({ length: ASKERS }, ask))
    await work().finally(() => {
      isOver = true
    })
    await asking
    return answers
  }
  const submitted = async (tasks: object[]) => {
    const { status, body } = await program.call('POST', '/tasks/batch', { tasks })
    expect(status, JSON.stringify(body).slice(0, 500)).toBe(201)
    return body.tasks as { id: string }[]
  }
  const untilNoneWaits = async () => {
    while ((await program.call('GET', '/stats')).body.dependent_tasks > 0);
  }

  it('the largest batch, with the most edges', async () => {
    const after = (index: number) => (index < 2 ? {} : { after: [index - 1, index - 2] })
    const tasks = Array.from({ length: TASKS }, (_, index) => ({ type: 'remote', batch: 'large', ...after(index) }))
    expect(await answersDuring(() => submitted(tasks))).toBeGreaterThan(ANSWERS_MIN)
  }, 120_000)

  it('its cancellation', async () => {
    const cancel = async () => {
      expect(await program.call('POST', '/tasks/cancel', { batch: 'large' })).toMatchObject({ status: 202 })
      await untilNoneWaits()
    }
    expect(await answersDuring(cancel)).toBeGreaterThan(ANSWERS_MIN)
    expect((await program.call('GET', '/batches/large')).body).toMatchObject({ canceled: TASKS })
  }, 120_000)

  it('the end of a task with the maximum number of successors', async () => {
    const [root] = await submitted([{ type: 'remote' }])
    await submitted(Array.from({ length: TASKS }, () => ({ type: 'remote', batch: 'wide', after: [root!.id] })))
    const end = async () => {
      expect(await program.call('DELETE', `/tasks/${root!.id}`)).toMatchObject({ status: 200 })
      await untilNoneWaits()
    }
    expect(await answersDuring(end)).toBeGreaterThan(ANSWERS_MIN)
    expect((await program.call('GET', '/batches/wide')).body).toMatchObject({ canceled: TASKS })
  }, 120_000)
})
