import { setTimeout as delay } from 'node:timers/promises'
import type { Contender, OpenContender, Payload } from '../contenders/contender.ts'

/**
 * One contender of Node or Bun in a process of its own: `program.ts CONTENDER WHERE`, and after it the arguments of
 * `bench/clients/PROTOCOL.md`, which programs in other languages have as well.
 */
const [, , name, where, role, ...rest] = process.argv
const numbers = rest.map(Number)
const say = (line: object) => process.stdout.write(`${JSON.stringify(line)}\n`)
const go = Promise.withResolvers<void>()
const stopped = Promise.withResolvers<void>()
process.stdin.on('data', (chunk: Buffer) => {
  if (chunk.includes('go')) go.resolve()
  if (chunk.includes('stop')) stopped.resolve()
})

/** A payload has this many bytes as JSON; the number and the time take up to 60 of them. */
const textOf = (bytes: number) => 'x'.repeat(Math.max(0, bytes - 60))
const BATCH_BYTES_MAX = 1_000_000

async function fill(contender: Contender, count: number, bytes: number) {
  const [text, batch] = [textOf(bytes), Math.max(1, Math.min(1_000, Math.floor(BATCH_BYTES_MAX / bytes)))]
  for (let from = 0; from < count; from += batch) {
    const payloads = Array.from({ length: Math.min(batch, count - from) }, (_, index) => ({ n: from + index, text }))
    await contender.submit(payloads)
  }
}

/** Submits one task with each call. What warms up is not counted. */
async function submit(contender: Contender, callers: number, warmup: number, count: number, bytes: number) {
  const text = textOf(bytes)
  const many = async (from: number, to: number) => {
    let next = from
    const calling = async () => {
      while (next < to) await contender.submit([{ n: next++, text }])
    }
    await Promise.all(Array.from({ length: callers }, calling))
  }
  await many(0, warmup)
  await started()
  const begun = performance.now()
  await many(warmup, warmup + count)
  say({ event: 'end', seconds: (performance.now() - begun) / 1_000 })
  say({ event: 'done', held: await contender.unfinished!() })
}

async function work(
  contender: Contender,
  concurrency: number,
  warmup: number,
  count: number,
  bytes: number,
  handlerMs: number,
) {
  if (bytes > 0) await fill(contender, warmup + count, bytes)
  const handled = new Uint8Array(warmup + count)
  const delays: number[] = []
  let [distinct, twice, begun] = [0, 0, performance.now()]
  const all = Promise.withResolvers<void>()
  const handle = async ({ n, at }: Payload) => {
    if (at !== undefined && n >= warmup) delays.push(Number(process.hrtime.bigint() - BigInt(at)) / 1_000)
    if (handlerMs > 0) await delay(handlerMs)
    if (handled[n]! > 0) twice += 1
    else distinct += 1
    handled[n] = 1
    if (distinct === warmup) {
      say({ event: 'begin' })
      begun = performance.now()
    }
    if (distinct === warmup + count) all.resolve()
    return { ok: true }
  }
  // With tasks that are submitted meanwhile, the worker is ready when it waits for them.
  if (bytes > 0) await started()
  const stop = await contender.work(concurrency, handle)
  if (bytes === 0) await started()
  await Promise.race([all.promise, stopped.promise])
  say({ event: 'end', seconds: (performance.now() - begun) / 1_000 })
  await stop()
  const lost = warmup + count - distinct
  say({ event: 'done', lost, twice, held: await contender.unfinished!(), delays: delays.map(Math.round) })
}

/** A timer is late by up to this, which is no latency of the queue. */
const TIMER_NS = 1_000_000n

/** Open loop: each task has its time, whether or not earlier ones have been answered. Its latency counts from then. */
async function pace(contender: Contender, perSecond: number, count: number, bytes: number) {
  await started()
  const period = BigInt(Math.round(1e9 / perSecond))
  const [text, first, calls] = [textOf(bytes), process.hrtime.bigint(), [] as Promise<void>[]]
  for (let n = 0; n < count; n++) {
    const due = first + BigInt(n) * period
    for (let now = process.hrtime.bigint(); now < due; now = process.hrtime.bigint()) {
      await delay(Math.max(1, Number(due - now) / 1e6))
    }
    const [now, latest] = [process.hrtime.bigint(), due + TIMER_NS]
    calls.push(contender.submit([{ n, at: String(now < latest ? now : latest), text }]))
  }
  await Promise.all(calls)
  say({ event: 'end', seconds: Number(process.hrtime.bigint() - first) / 1e9 })
  // Its CPU time can be read as long as it runs.
  await stopped.promise
  say({ event: 'done' })
}

async function started() {
  say({ event: 'ready' })
  await go.promise
}

const { open } = (await import(`../contenders/${name}.ts`)) as { open: OpenContender }
const contender = await open(where!)
const [first, second, third, fourth, fifth] = numbers as [number, number, number, number, number]
if (role === 'submit') await submit(contender, first, second, third, fourth)
else if (role === 'work') await work(contender, first, second, third, fourth, fifth)
else await pace(contender, first, second, third)
await contender.close()
process.exit(0)
