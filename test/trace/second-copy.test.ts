import { cpSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { removeAtExit } from '../fixtures/processes.ts'
import { startServer } from '../fixtures/server.ts'

/** Pino's number of the level. */
const WARN = 40

type Api = typeof import('@opentelemetry/api')

const require = createRequire(import.meta.url)
const installed = dirname(dirname(require.resolve('@opentelemetry/api')))
let provider: { getTracer: () => never; forceFlush: () => Promise<void> }
let flushed: number

beforeEach(() => {
  flushed = 0
  provider = {
    getTracer: () => {
      throw new Error('no span is made here')
    },
    forceFlush: async () => void flushed++,
  }
})
afterEach(() => {
  delete (globalThis as Record<symbol, unknown>)[Symbol.for('opentelemetry.js.api.1')]
})

/** A copy of the API of its own, as handlers have it that come with their own node_modules. */
function copyOfApi(version: string | null): Api {
  const folder = removeAtExit(mkdtempSync(join(tmpdir(), 'xqueue-otel-')))
  cpSync(installed, folder, { recursive: true })
  for (const name of version ? ['dist/version.cjs', 'dist/internal/global-utils.cjs'] : []) {
    const file = join(folder, name)
    writeFileSync(file, readFileSync(file, 'utf8').replace(/"1\.\d+\.\d+"/g, `"${version}"`))
  }
  return require(join(folder, 'dist/index.cjs')) as Api
}

async function logOfApp(): Promise<string[]> {
  const server = await startServer({ mqtt: 'off' })
  await server.stop()
  const lines = server.log.map((line) => JSON.parse(line) as { level: number; msg: string })
  return lines.filter(({ level }) => level >= WARN).map(({ msg }) => msg)
}

it('warns that the SDK of an older copy of the OpenTelemetry API receives no spans', async () => {
  copyOfApi('1.0.0').trace.setGlobalTracerProvider(provider)
  expect(await logOfApp()).toEqual([expect.stringMatching(/no spans.*@opentelemetry\/api 1\.0\.0.*install the same/)])
})

it('uses the SDK of a compatible other copy without a warning, and flushes it at the end', async () => {
  copyOfApi(null).trace.setGlobalTracerProvider(provider)
  expect(await logOfApp()).toEqual([])
  expect(flushed).toBe(1)
})
