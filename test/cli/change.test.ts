import { type SpawnSyncReturns, spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { beforeAll, beforeEach, expect, it } from 'vitest'
import { type Program, startProgram } from '../fixtures/program.ts'
import { main, root } from '../fixtures/root.ts'

type Listed = { id: string }

let server: Program

beforeAll(async () => {
  server = await startProgram({ handlers: join(root, 'handlers/index.ts') })
})
beforeEach(async () => {
  await server.call('POST', '/tasks/cancel', {})
  for (const tag of ['a', 'a', 'b']) {
    await server.submit('example', { duration: 0 }, { delay: '1h', tags: { team: tag }, batch: `batch-${tag}` })
  }
})

const env = () => ({ ...process.env, XQUEUE_SERVER: server.url })

function run(...args: string[]): SpawnSyncReturns<string> {
  return spawnSync(process.execPath, [main, ...args], { encoding: 'utf8', env: env() })
}

/** Runs a command on a terminal, and types `answer`. */
function runOnTerminal(answer: string, ...args: string[]): SpawnSyncReturns<string> {
  const command = [process.execPath, main, ...args].map((word) => `'${word}'`).join(' ')
  return spawnSync('script', ['-qec', command, '/dev/null'], { encoding: 'utf8', env: env(), input: `${answer}\n` })
}

async function pending(): Promise<number> {
  return (await server.call('GET', '/tasks?status=pending')).body.count
}

it.each([
  ['cancel', '--tag', 'team:a'],
  ['cancel', '--batch', 'batch-a'],
  ['cancel', '--status', 'pending'],
  ['cancel', '--all'],
  ['retry', '--status', 'canceled'],
  ['retry', '--all'],
  ['delete', '--all'],
])('xqueue %s %s %s changes nothing without a terminal and --yes', async (...args) => {
  const { status, stderr } = run(...args)
  expect(stderr).toMatch(/--yes.*--dry-run/)
  expect(status).toBe(2)
  expect(await pending()).toBe(3)
})

it('cancels and retries every matching task with --yes', async () => {
  expect(run('cancel', '--tag', 'team:a', '--yes')).toMatchObject({ status: 0, stdout: '2 tasks\n' })
  expect(await pending()).toBe(1)
  expect(run('retry', '--batch', 'batch-a', '--yes').status).toBe(0)
  expect((await server.call('GET', '/tasks?batch=batch-a&status=canceled')).body.count).toBe(0)
})

it('deletes every matching task that has ended', async () => {
  run('cancel', '--tag', 'team:a', '--yes')
  expect(run('delete', '--tag', 'team:a', '--dry-run').stdout).toMatch(/^[1-9]\d* tasks\n$/)
  expect(run('delete', '--tag', 'team:a', '--yes').stdout).toMatch(/^[1-9]\d* tasks\n$/)
  expect((await server.call('GET', '/tasks?tag=team:a')).body.count).toBe(0)
  expect(await pending()).toBe(1)
  expect(run('delete').stderr).toBe('xqueue: delete needs an ID, a filter or --all\n')
})

it('counts with --dry-run and changes nothing', async () => {
  expect(run('cancel', '--tag', 'team:a', '--dry-run')).toMatchObject({ status: 0, stdout: '2 tasks\n' })
  expect(JSON.parse(run('cancel', '--all', '--dry-run', '--json').stdout)).toEqual({ count: 3, more: false })
  expect(run('cancel', '--batch', 'batch-b', '--dry-run').stdout).toMatch(/^\d+ tasks?\n$/)
  expect(run('cancel', '--status', 'success', '--dry-run').stdout).toBe('0 tasks\n')
  expect(await pending()).toBe(3)
})

it('selects by age, by time and by a part of the error', async () => {
  const started = new Date().toISOString()
  const count = (...args: string[]) => run('cancel', ...args, '--status', 'pending', '--dry-run').stdout
  expect(count('--created-after', '1h')).toBe('3 tasks\n')
  expect(count('--created-before', '1h')).toBe('0 tasks\n')
  expect(count('--created-before', started)).toBe('3 tasks\n')
  await server.call('POST', '/types/mine', { declared: true })
  const id = await server.submit('mine', {}, { max_retry: 0 })
  const { leases } = (await server.call('POST', '/tasks/consume', { types: ['mine'], wait: 30 })).body
  await server.call('POST', `/leases/${leases[0].lease}/fail`, { error: 'Error: 503 from a', retry: false })
  const failed = (text: string) =>
    JSON.parse(run('list', '--created-after', started, '--error', text, '--json').stdout).map((task: Listed) => task.id)
  expect([failed('error: 503'), failed('504')]).toEqual([[id], []])
  expect(run('delete', '--created-after', started, '--error', '503 FROM', '--yes').stdout).toBe('1 task\n')
})

it('says on standard error that a list may be longer, also beside JSON', () => {
  const [short, json, whole] = [['--limit', '2'], ['--limit', '2', '--json'], []].map((flags) =>
    run('list', '--status', 'pending', ...flags!),
  )
  for (const { stderr } of [short!, json!]) expect(stderr).toMatch(/^There may be more than these 2: raise --limit/)
  expect(JSON.parse(json!.stdout)).toHaveLength(2)
  expect([short!.stdout.trim().split('\n').length, whole!.stderr]).toEqual([3, ''])
})

it('asks on a terminal, with the count, and continues only after yes', async () => {
  const refused = runOnTerminal('', 'cancel', '--tag', 'team:a')
  expect(refused.stdout).toContain('cancel 2 tasks? [y/N]')
  expect(refused.status).toBe(1)
  expect(await pending()).toBe(3)
  expect(runOnTerminal('y', 'cancel', '--tag', 'team:a').status).toBe(0)
  expect(await pending()).toBe(1)
})

it('takes either an ID or a filter', () => {
  expect(run('cancel', 'some-id', '--type', 'example')).toMatchObject({
    status: 2,
    stderr: expect.stringContaining('either an ID or a filter'),
  })
  expect(run('cancel')).toMatchObject({ status: 2, stderr: expect.stringContaining('an ID, a filter or --all') })
})

it('declares a type, and sets and removes the named ceilings', () => {
  expect(run('declare', 'letter', '--process-timeout', '5m', '--max-retry', '5').stdout).toMatch(/process_timeout +5m/)
  const { status, stdout } = run('declare', 'letter', '--max-retry', 'none', '--priority', '0', '--json')
  expect(status).toBe(0)
  const ceilings = { max_retry: null, priority: 0, queue_timeout: null, process_timeout: 300, payload_bytes: null }
  expect(JSON.parse(stdout)).toMatchObject({ type: 'letter', declared: true, workers: 0, ceilings })
  expect(run('declare', 'letter', '--priority', '10').stderr).toMatch(/priority/)
  expect(run('declare', 'letter', '--max-retry', 'many').stderr).toMatch(/--max-retry many must be an integer/)
  expect(JSON.parse(run('declare', 'letter', '--undo', '--json').stdout)).toMatchObject({ declared: false, ceilings })
})

it('sets and removes the retention of a type', () => {
  expect(run('declare', 'letter', '--keep-failed', '30d').stdout).toMatch(/keep_failed +30d/)
  const { stdout } = run('declare', 'letter', '--keep-success', '0', '--keep-failed', 'none', '--json')
  const retention = { success: 0, failed: null, canceled: null, timeout: null }
  expect(JSON.parse(stdout)).toMatchObject({ type: 'letter', retention })
  expect(run('declare', 'letter', '--keep-failed', '400d').stderr).toMatch(/retention.failed.* longer than 366 days/)
})

it('deletes a finished task, and refuses one that waits', async () => {
  const [{ id }] = (await server.call('GET', '/tasks?limit=1')).body.tasks
  expect(run('delete', id).stderr).toContain('cancel it, wait for its end, then purge it')
  run('cancel', id)
  expect(run('delete', id)).toMatchObject({ status: 0, stdout: `${id} deleted\n` })
  expect(run('get', id).status).toBe(1)
})
