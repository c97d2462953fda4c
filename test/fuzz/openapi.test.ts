import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { beforeAll, expect, it } from 'vitest'
import { isLong } from '../fixtures/long.ts'
import { type Program, startProgram } from '../fixtures/program.ts'
import { schemathesis } from './schemathesis.ts'

const here = import.meta.dirname
/** The same draw in each run; FUZZ_SEED=N draws others, FUZZ_SECONDS=N goes on for longer. */
const seed = Number(process.env.FUZZ_SEED ?? 1)
const seconds = Number(process.env.FUZZ_SECONDS ?? 45)

/** For each call, and each phase of the search. */
const examples = isLong || process.env.FUZZ_SECONDS ? 25 : 8

let server: Program
const tester = schemathesis()
beforeAll(async () => {
  server = await startProgram({ guarded: true })
}, 300_000)

it.runIf(tester)(
  'answers valid and invalid requests as its OpenAPI document says',
  {
    timeout: 120_000 + seconds * 1_000,
    retry: 0,
  },
  async () => {
    const target = [`${server.url}/openapi.json`, '--header', `Authorization: Bearer ${server.token}`]
    const checks = ['--checks', 'all', '--continue-on-failure', '--request-timeout', '20']
    // The one check that cannot apply: DELETE cancels a task, which can still be read, so nothing is freed.
    const excluded = ['--exclude-checks', 'use_after_free']
    // The one call that does not end, so its answer cannot be checked: parsers.test.ts calls it.
    excluded.push('--exclude-path', '/api/v1/events')
    // One after the other, so that a seed draws the same again.
    const drawn = [
      '--seed',
      String(seed),
      '--workers',
      '1',
      '--max-examples',
      String(examples),
      '--max-time',
      String(seconds),
    ]
    const quiet = ['--generation-database', 'none', '--no-color', '--warnings', 'off']
    const args = ['--config-file', join(here, 'schemathesis.toml'), 'run', ...target, ...checks, ...excluded]
    const { body: task } = await server.call('POST', '/tasks', { type: 'remote' })
    expect((await server.call('PUT', '/limits/fuzzed', { max: 100 })).status).toBe(200)
    const hooks = { SCHEMATHESIS_HOOKS: 'schemathesis_hooks', PYTHONPATH: here, XQUEUE_FUZZ_TASK: task.id }
    const child = spawn(tester!, [...args, ...drawn, ...quiet], {
      cwd: server.folder,
      env: { ...process.env, ...hooks, PYTHONDONTWRITEBYTECODE: '1' },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let report = ''
    for (const output of [child.stdout, child.stderr]) output.on('data', (chunk) => (report += chunk))
    const [code] = await once(child, 'exit')
    const cases = Number(/^ {2}([\d,]+) generated/m.exec(report)?.[1]?.replaceAll(',', '') ?? 0)
    console.log(`schemathesis: ${cases} calls, FUZZ_SEED=${seed}`)
    expect(code, report).toBe(0)
    expect(cases).toBeGreaterThan(500)
    expect(server.faults).toEqual([])
    expect((await server.call('GET', '/health')).body.status).toBe('healthy')
  },
)
