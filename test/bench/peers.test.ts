import { execFileSync, spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { beforeAll, expect, it } from 'vitest'
import { root } from '../fixtures/root.ts'

/** All that need no more than npm, Redis, and what other tests use as well. `--smoke` without `--only` starts all. */
const CONTENDERS = [
  'xqueue',
  'xqueue-redis',
  'bullmq',
  'bee-queue',
  'bunqueue-durable',
  'bunqueue-file',
  'bunqueue-memory',
  'xqueue-go',
  'xqueue-python',
]
const [INSTALL_MS_MAX, RUN_MS_MAX] = [240_000, 180_000]

const run = (...args: string[]) =>
  spawnSync(process.execPath, [join(root, 'bench/main.ts'), ...args], { cwd: root, encoding: 'utf8' })

beforeAll(() => {
  execFileSync(process.execPath, [join(root, 'bench/install.ts')], { stdio: 'inherit' })
}, INSTALL_MS_MAX)

it(
  'starts each contender of the benchmark, which submits and handles every task',
  () => {
    const { status, stderr } = run('peers', '--smoke', '--only', CONTENDERS.join())
    const figures = stderr.trim().split('\n')
    expect(figures.filter((line) => !/: [\d,]+ tasks\/s, [\d.]+ µs$/.test(line))).toEqual([])
    expect(figures).toHaveLength(CONTENDERS.length * 2)
    expect(status).toBe(0)
  },
  RUN_MS_MAX,
)

it('measures the time from the schedule to the start of a task in two processes', () => {
  const { status, stderr } = run('latency', '--smoke', '--only', 'xqueue,xqueue-redis,bullmq')
  expect(stderr.trim().split('\n')).toHaveLength(3)
  expect(status).toBe(0)
})

it('counts tasks that a queue loses, handles twice, or still holds', () => {
  const program = join(root, 'bench/peers/program.ts')
  const args = [program, '../../test/bench/lossy-queue', 'nowhere', 'work', '1', '2', '8', '100', '0']
  const { stdout } = spawnSync(process.execPath, args, { input: 'go\nstop\n', encoding: 'utf8' })
  const done = stdout.trim().split('\n').at(-1)!
  expect(JSON.parse(done)).toMatchObject({ event: 'done', lost: 1, twice: 1, held: 1 })
})

it('fails when a contender cannot run', () => {
  const { status, stderr } = run('peers', '--smoke', '--only', 'no-such-queue')
  expect(stderr).toContain('no contender no-such-queue')
  expect(status).toBe(2)
})

it('has in the documentation the tables of its last results', () => {
  const { status, stderr } = spawnSync(process.execPath, [join(root, 'bench/peers/document.ts'), '--check'])
  expect(stderr.toString()).toBe('')
  expect(status).toBe(0)
})
