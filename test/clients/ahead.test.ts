import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { HttpProxy, type ProxiedCall } from '../fixtures/http-proxy.ts'
import { type Program, startProgram } from '../fixtures/program.ts'
import { LANGUAGES, startWorker } from './languages.ts'

/** More than the quick attempts that have to come first. */
const WARM = 300
/** What the workers of the tests run at once. */
const CONCURRENCY = 3

interface Listed {
  id: string
  type: string
  status: string
  attempts: number
}

describe.each(Object.entries(LANGUAGES))('a worker in %s that claims ahead', (_name, language) => {
  let server: Program
  let between: HttpProxy
  let worker: ChildProcess

  beforeAll(async () => {
    language.build()
    // Leases end long after a test has failed, so none of these tasks comes back by itself.
    server = await startProgram({ flags: ['--lease', '5m'] })
  }, 120_000)
  afterAll(() => server.stop())
  beforeEach(async () => {
    between = await HttpProxy.start(server.url)
    worker = startWorker(language, between.url)
    await server.untilHandled('echo')
  })
  afterEach(async () => {
    between.stop()
    if (worker.exitCode !== null || worker.signalCode !== null) return
    worker.kill('SIGKILL')
    await once(worker, 'exit')
  })

  /** Tasks in this order: by their types, with a payload for all. */
  async function submit(types: readonly string[], payload: unknown = null): Promise<string[]> {
    const tasks = types.map((type) => ({ type, payload }))
    const { body } = await server.call('POST', '/tasks/batch', { tasks })
    return body.tasks.map(({ id }: Listed) => id)
  }
  async function found(ids: readonly string[]): Promise<Listed[]> {
    return Promise.all(ids.map(async (id) => (await server.get(`/tasks/${id}`)).body))
  }
  /** Stops the worker while the answer that brings these tasks is on its way to it. */
  async function stopBeforeAnswer(): Promise<{ ids: string[]; exit: Promise<unknown[]> }> {
    const moment = Promise.withResolvers<void>()
    between.arrival = moment.promise
    const ids = await submit(echoes(CONCURRENCY - 1))
    for (const id of ids) await server.until(id, { status: 'processing' })
    const exit = once(worker, 'exit')
    worker.kill('SIGTERM')
    // So long that the worker has seen its signal, and so short that it still waits for the answer.
    await sleep(50)
    moment.resolve()
    return { ids, exit }
  }
  const waits = ({ body }: ProxiedCall) => JSON.parse(body).max > 0 && JSON.parse(body).wait > 0
  const echoes = (count: number) => Array<string>(count).fill('echo')
  const reportsOf = () => between.calls.flatMap(({ body }) => JSON.parse(body).outcomes?.length ?? [])

  it('reports many quick tasks with one call, after it has seen that they are quick', async () => {
    const ids = await submit(echoes(900))
    await server.until(ids.at(-1)!, { status: 'success' })
    await vi.waitFor(async () => {
      expect((await found(ids)).every(({ status, attempts }) => status === 'success' && attempts === 1)).toBe(true)
    })
    expect(Math.max(...reportsOf())).toBeGreaterThan(20)
    expect(Math.max(...reportsOf().slice(0, 20))).toBeLessThanOrEqual(CONCURRENCY)
  })

  it('gives back at no cost what waits behind slow handlers', async () => {
    const gate = join(server.folder, `gate-${Math.random()}`)
    const slow = Array<string>(CONCURRENCY).fill('gated')
    const ids = await submit([...echoes(WARM), ...slow, ...echoes(WARM)], gate)
    for (const id of ids.slice(WARM, WARM + CONCURRENCY)) await server.until(id, { status: 'processing' })
    await vi.waitFor(async () => {
      const others = (await found(ids)).filter(({ type }) => type === 'echo')
      expect(others.filter(({ status }) => status === 'processing')).toEqual([])
      const waiting = others.filter(({ status }) => status === 'pending')
      expect(waiting.length).toBeGreaterThan(WARM / 2)
      expect(waiting.every(({ attempts }) => attempts === 0)).toBe(true)
    })
    writeFileSync(gate, '')
    for (const id of ids) await server.until(id, { status: 'success', attempts: 1 })
  })

  it('gives back what a hold of its type keeps from starting', async () => {
    const warm = await submit(echoes(WARM))
    const held = await submit(Array<string>(50).fill('limited'), 3_600)
    for (const id of warm) await server.until(id, { status: 'success' })
    await vi.waitFor(async () => {
      const pending = (await found(held)).filter(({ status, attempts }) => status === 'pending' && attempts === 0)
      expect(pending.length).toBe(held.length)
    })
  })

  it('leaves no task behind whose answer was on its way when it stopped', async () => {
    await vi.waitFor(() => expect(between.calls.some(waits)).toBe(true))
    const { ids, exit } = await stopBeforeAnswer()
    expect(await exit).toEqual([0, null])
    const tasks = await found(ids)
    expect(tasks.map(({ status, attempts }) => [status, attempts])).toEqual(ids.map(() => ['pending', 0]))
  })

  it('starts no task of an answer that was on its way when it stopped, while another one runs', async () => {
    const gate = join(server.folder, `gate-${Math.random()}`)
    await vi.waitFor(() => expect(between.calls.some(waits)).toBe(true))
    const before = between.calls.length
    const [running] = await submit(['gated'], gate)
    await server.until(running!, { status: 'processing' })
    await vi.waitFor(() => expect(between.calls.slice(before).some(waits)).toBe(true))
    const { ids, exit } = await stopBeforeAnswer()
    await vi.waitFor(async () => {
      const tasks = await found(ids)
      expect(tasks.map(({ status, attempts }) => [status, attempts])).toEqual(ids.map(() => ['pending', 0]))
    })
    writeFileSync(gate, '')
    expect(await exit).toEqual([0, null])
    expect(await found([running!])).toMatchObject([{ status: 'success', attempts: 1 }])
  })

  it('leaves no task behind when it stops', async () => {
    const ids = await submit(echoes(1_000))
    await server.until(ids[WARM]!, { status: 'success' })
    const exit = once(worker, 'exit')
    worker.kill('SIGTERM')
    expect(await exit).toEqual([0, null])
    // The server gives back what it has claimed for a call that ended without its worker, which may take it a moment.
    const tasks = await vi.waitFor(async () => {
      const all = await found(ids)
      expect(all.filter(({ status }) => status !== 'success' && status !== 'pending')).toEqual([])
      return all
    })
    expect(tasks.every(({ status, attempts }) => attempts === (status === 'success' ? 1 : 0))).toBe(true)
  })
})
