import { writeSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { defineHandlers, type HandlerContext } from '../../src/index.ts'

const LOOK_MS = 5
const STILL_MS = 1_500

/** Writes on each look whether it holds its lease, and after which look it had stood still, until its signal aborts. */
async function watch(_task: unknown, { lease, signal }: HandlerContext): Promise<never> {
  let wokeAt = 0
  for (let before = performance.now(); ; before = performance.now()) {
    await sleep(LOOK_MS)
    if (performance.now() - before > STILL_MS) {
      wokeAt = performance.now()
      writeSync(1, `woke with fence ${lease.fence}\n`)
    }
    writeSync(1, `looked: ${lease.isHeld()}\n`)
    if (signal.aborted) writeSync(1, `aborted after ${Math.round(performance.now() - wokeAt)} ms\n`)
    signal.throwIfAborted()
  }
}

/** Loaded by frozen-worker.ts, and again by the thread of the isolated one. */
export default defineHandlers({ watch: { run: watch }, isolated: { isolate: true, run: watch } })
