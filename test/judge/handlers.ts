import { appendFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { defineHandlers, type HandlerContext, type TaskWith } from '../../src/index.ts'
import { DECLARED, type Run, type Units, type Work } from './record.ts'

/** What the processes of a judgement run. Each run leaves two lines in a file of its process, which outlives it. */
const file = join(process.env.JUDGE_FOLDER!, `${process.pid}.runs`)
const HANG_MS = 60_000

async function run({ id, payload }: TaskWith<unknown>, { attempt, lease, signal }: HandlerContext) {
  const { ms = 1, failures = 0, hangs = false } = (payload ?? {}) as Partial<Work>
  const { fence } = lease
  const tell = (what: Run['what']) => {
    appendFileSync(file, `${JSON.stringify({ what, id, attempt, fence, pid: process.pid, at: Date.now() })}\n`)
  }
  tell('began')
  try {
    await wait(hangs ? HANG_MS : ms, undefined, { signal })
    if (attempt <= failures) throw new Error(`attempt ${attempt} fails on purpose`)
  } catch (error) {
    tell('failed')
    throw error
  }
  tell('ended')
  return { fence }
}

const units = JSON.parse(process.env.JUDGE_UNITS!) as Units
const pooled = (type: string) =>
  units[type] === undefined ? {} : { limits: { pool: { max: DECLARED.pool } }, uses: { pool: units[type] } }
const base = { run, retry: { base: '100ms', cap: '300ms' } } as const

export default defineHandlers({
  plain: base,
  narrow: { ...base, concurrency: DECLARED.narrow },
  grouped: { ...base, groupConcurrency: DECLARED.groupOfType },
  rated: { ...base, rate: { max: DECLARED.rate.max, per: DECLARED.rate.perMs / 1_000 } },
  'pool-one': { ...base, ...pooled('pool-one') },
  'pool-two': { ...base, ...pooled('pool-two') },
  tick: base,
})
