import { writeSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { defineHandlers, type HandlerContext } from '../../src/index.ts'

const LOOK_MS = 5
const STILL_MS = 1_500

/** Writes on each look whether it holds its lease, and after which look it had stood still, until its signal aborts. */
async function watch(_task: unknown, { lease, signal }: HandlerContext): Promise<never> {
  let wokeAt = 0
  for (let last = performance.now(); ; ) {
    await sleep(LOOK_MS)
    const isOver = signal.aborted
    const now = performance.now()
    if (now - last > STILL_MS) {
      wokeAt = now
      writeSync(1, `woke with fence ${lease.fence}\n`)
    }
    last = now
    writeSync(1, `looked: ${lease.isHeld()}\n`)
    if (!isOver) continue
    writeSync(1, `aborted after ${Math.round(performance.now() - wokeAt)} ms\n`)
    throw signal.reason
  }
}

/** Loaded by frozen-worker.ts, and again by the thread of the isolated one. */
export default defineHandlers({ watch: { run: watch }, isolated: { isolate: true, run: watch } })
