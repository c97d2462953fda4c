import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import type { Page } from 'playwright-core'
import { Browser } from '../test/fixtures/chromium.ts'
import { PAYLOAD } from './contenders/contender.ts'
import { quantile, type Row, ratioRow } from './report.ts'
import { startXQueue } from './servers.ts'

/** Waiting, running, succeeded. */
const CHANGES_PER_TASK = 3
const STEP_MS = 30

/** What a page in Chromium sees: how late a change arrives, whether any is lost, and what the dashboard takes. */
export async function page(rounds: number, seconds: number): Promise<Row[]> {
  const figures: Record<string, { unit: string; values: number[] }> = {}
  const note = (measure: string, unit: string, value: number) => {
    figures[measure] ??= { unit, values: [] }
    figures[measure].values.push(value)
  }
  for (let round = 0; round < rounds; round++) {
    const folder = mkdtempSync(join(tmpdir(), 'xqueue-bench-'))
    const flags = ['--mqtt', 'embedded', '--mqtt-port', '0', '--concurrency', '100', '--retention-count', '1000']
    const server = await startXQueue(`sqlite:${join(folder, 'x.db')}`, ...flags)
    const browser = await Browser.start()
    const tab = await browser.open(server.url)
    note('page: transfer of the dashboard, compressed', 'bytes', await transferred(server.url, browser.requested))
    await tab.goto(`${server.url}/docs/`)
    await listen(tab)
    for (const perS of [100, 5_000]) {
      const { late, lost } = await changes(tab, server.url, perS, seconds)
      const name = `page: change to callback at ${perS.toLocaleString('en')}/s`
      note(`${name}, p50`, 'ms', quantile(late, 0.5))
      note(`${name}, p99`, 'ms', quantile(late, 0.99))
      note(`${name}, lost`, 'changes', lost)
    }
    await tab.goto(server.url)
    const { busy, framesPerS } = await drawing(tab, server.url, 10_000, seconds)
    note('page: main thread of the dashboard at 10,000/s', '%', busy * 100)
    note('page: frames of the dashboard at 10,000/s', 'per s', framesPerS)
    await browser.close()
    await server.stop()
    rmSync(folder, { recursive: true })
  }
  return Object.entries(figures).map(([measure, { unit, values }]) => ratioRow(measure, unit, values, '', []))
}

async function transferred(url: string, requested: readonly string[]): Promise<number> {
  const own = new Set(requested.filter((file) => file === `${url}/` || /\.(js|css|svg)$/.test(file)))
  let bytes = 0
  for (const file of own) {
    const answer = await fetch(file, { method: 'GET', headers: { 'Accept-Encoding': 'br' } })
    bytes += Number(answer.headers.get('content-length'))
    await answer.body?.cancel()
  }
  return bytes
}

/** The stream of the dashboard, with a callback that only reads the clock. */
async function listen(tab: Page): Promise<void> {
  await tab.evaluate(`new Promise((onOpen) => {
    globalThis.heard = []
    const events = new EventSource('/api/v1/events')
    events.onopen = onOpen
    events.addEventListener('status', ({ data }) => {
      const now = performance.timeOrigin + performance.now()
      heard.push(now - Date.parse(JSON.parse(data).timestamp))
    })
  })`)
}

async function changes(tab: Page, url: string, perS: number, seconds: number) {
  await tab.evaluate('heard.length = 0')
  const tasks = await load(url, perS, seconds)
  await wait(1_000)
  const late = (await tab.evaluate('heard')) as number[]
  return { late, lost: tasks * CHANGES_PER_TASK - late.length }
}

async function drawing(tab: Page, url: string, perS: number, seconds: number) {
  const session = await tab.context().newCDPSession(tab)
  await session.send('Performance.enable')
  const busyS = async () => {
    const { metrics } = await session.send('Performance.getMetrics')
    return metrics.find(({ name }) => name === 'TaskDuration')!.value
  }
  await tab.evaluate(`{
    globalThis.frames = 0
    const count = () => { frames += 1; requestAnimationFrame(count) }
    count()
  }`)
  await load(url, perS, 2)
  const [before, frames, started] = [await busyS(), (await tab.evaluate('frames')) as number, performance.now()]
  await load(url, perS, seconds)
  const tookS = (performance.now() - started) / 1_000
  const framesPerS = (((await tab.evaluate('frames')) as number) - frames) / tookS
  return { busy: ((await busyS()) - before) / tookS, framesPerS }
}

/** Submits at a steady rate; returns how many tasks. */
async function load(url: string, changesPerS: number, seconds: number): Promise<number> {
  const started = performance.now()
  const headers = { 'Content-Type': 'application/json' }
  let submitted = 0
  for (let now = 0; now < seconds * 1_000; now = performance.now() - started) {
    const due = Math.floor((now / 1_000) * (changesPerS / CHANGES_PER_TASK)) - submitted
    if (due > 0) {
      const tasks = Array.from({ length: due }, () => ({ type: 'bench', payload: PAYLOAD }))
      await fetch(`${url}/api/v1/tasks/batch`, { method: 'POST', headers, body: JSON.stringify({ tasks }) })
      submitted += due
    }
    await wait(Math.max(1, STEP_MS - (performance.now() - started - now)))
  }
  return submitted
}
