import { cpSync, symlinkSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { pino } from 'pino'
import { build } from 'vite'
import { beforeAll, describe, expect, it, vi } from 'vitest'
import * as own from '../../src/index.ts'
import type { Queue } from '../../src/queue/queue.ts'
import { isFinal } from '../../src/task/status.ts'
import { completeSpec, type Task } from '../../src/task/task.ts'
import type { TaskView } from '../../src/task/task-view.ts'
import { loadHandlers, normalizeHandlers } from '../../src/worker/handlers.ts'
import { Worker } from '../../src/worker/worker.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { root } from '../fixtures/root.ts'
import { openTestQueue } from '../fixtures/server.ts'

/** A project of handlers with a copy of the package of its own. */

const folder = temporaryFolder()
type Copy = typeof own
type Class = abstract new (...args: never[]) => unknown

const BODY = `
  const defined = defineHandlers({
    never: { run: () => { throw new DoNotRetry('no use') } },
    later: { run: () => { throw new RetryAfter('1h', 'busy') } },
    limited: { run: () => { throw new RateLimited({ for: '1h' }, 'HTTP 429') } },
    own_error: { run: () => { throw new (class Mine extends DoNotRetry {})('mine') } },
    plain: { run: () => { throw new Error('plain') } },
  })
  for (const [type, handler] of Object.entries(defined)) defined['isolated_' + type] = { ...handler, isolate: true }
`
const NAMES = 'defineHandlers, DoNotRetry, RateLimited, RetryAfter'
const copies: Record<string, { file: string; load: () => Promise<Copy> }> = {
  'ESM, as in node_modules of its own': {
    file: join(folder, 'handlers.mjs'),
    load: () => import(pathToFileURL(join(folder, 'copy/src/index.ts')).href),
  },
  'CommonJS, as a bundler makes it': {
    file: join(folder, 'handlers.cjs'),
    load: async () => createRequire(import.meta.url)(join(folder, 'bundle/xqueue.cjs')),
  },
}

let queue: Queue
let worker: Worker | undefined
beforeAll(async () => {
  cpSync(join(root, 'src'), join(folder, 'copy/src'), { recursive: true })
  cpSync(join(root, 'package.json'), join(folder, 'copy/package.json'))
  symlinkSync(join(root, 'node_modules'), join(folder, 'copy/node_modules'))
  const output = { format: 'cjs' as const, entryFileNames: 'xqueue.cjs', codeSplitting: false }
  await build({
    root,
    configFile: false,
    logLevel: 'silent',
    ssr: { noExternal: true },
    build: {
      ssr: join(root, 'src/index.ts'),
      outDir: join(folder, 'bundle'),
      emptyOutDir: true,
      minify: true,
      rolldownOptions: { output },
    },
  })
  writeFileSync(
    join(folder, 'handlers.mjs'),
    `import { ${NAMES} } from './copy/src/index.ts'\n${BODY}\nexport default defined\n`,
  )
  writeFileSync(
    join(folder, 'handlers.cjs'),
    `const { ${NAMES} } = require('./bundle/xqueue.cjs')\n${BODY}\nmodule.exports = defined\n`,
  )
  queue = await openTestQueue('sqlite::memory:')
}, 60_000)

describe.each(Object.entries(copies))('with another copy of the package, %s', (_, { file, load }) => {
  it('recognizes the errors of its handlers, in the process and in threads', async () => {
    const logger = pino({ level: 'silent' })
    worker = new Worker({ queue, handlers: normalizeHandlers(await loadHandlers(file), file), logger })
    await worker.start()
    const ended = async (type: string, reached: (task: Task) => boolean) => {
      const { task } = (await queue.submit([completeSpec({ type, maxRetry: 5 })]))[0]!
      return vi.waitFor(
        async () => {
          const [seen] = await queue.get([task.id])
          expect(seen && reached(seen)).toBe(true)
          return seen!
        },
        { timeout: 20_000, interval: 5 },
      )
    }
    try {
      for (const where of ['', 'isolated_']) {
        const over = ({ status }: Task) => isFinal(status)
        expect(await ended(`${where}never`, over)).toMatchObject({ status: 'failed', attempts: 1 })
        expect(await ended(`${where}own_error`, over)).toMatchObject({ status: 'failed', attempts: 1 })
        const later = await ended(`${where}later`, ({ attempts }) => attempts === 1)
        expect(later.runAt - later.updatedAt).toBe(3_600_000)
        const limited = await ended(`${where}limited`, ({ error }) => error !== null)
        expect(limited).toMatchObject({ status: 'pending', attempts: 0, deliveries: 1 })
        const [held] = await queue.types({ names: [`${where}limited`] })
        expect(held!.heldUntil! - limited.updatedAt).toBe(3_600_000)
        await queue.cancel({ ids: [limited.id] })
        await queue.configureType(`${where}limited`, { holdMs: 0 })
        expect(await ended(`${where}plain`, ({ attempts }) => attempts === 1)).toMatchObject({ status: 'pending' })
      }
    } finally {
      await worker.stopNow()
    }
  })

  it('recognizes errors by instanceof, and a subclass only its own', async () => {
    const copy = await load()
    expect(copy.XQueueError).not.toBe(own.XQueueError)
    class Mine extends own.DoNotRetry {}
    const pairs: [unknown, Class, Class][] = [
      [new copy.DoNotRetry('x'), own.DoNotRetry, own.RetryAfter],
      [new copy.RetryAfter(1), own.RetryAfter, own.DoNotRetry],
      [new copy.RateLimited({ for: 1 }), own.RateLimited, own.RetryAfter],
      [new copy.XQueueError('not_found', 'x'), own.XQueueError, own.DoNotRetry],
      [
        new copy.TaskUnsuccessful({ id: '1', type: 't', status: 'failed', error: null } as TaskView),
        own.TaskUnsuccessful,
        Mine,
      ],
      [new Mine('x'), copy.DoNotRetry, copy.RetryAfter],
      [new Mine('x'), Mine, copy.XQueueError],
      [new own.DoNotRetry('x'), own.DoNotRetry, Mine],
      [new copy.DoNotRetry('x'), Error, Mine],
    ]
    for (const [error, is, isNot] of pairs) {
      expect([error instanceof is, error instanceof isNot]).toEqual([true, false])
    }
  })
})
