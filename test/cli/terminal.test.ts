import { type SpawnSyncReturns, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { stripVTControlCharacters } from 'node:util'
import { beforeAll, expect, it, vi } from 'vitest'
import { durationText, plain, table, widthOf } from '../../src/cli/terminal.ts'
import { type Program, startProgram } from '../fixtures/program.ts'
import { main, root } from '../fixtures/root.ts'

const LONG = 'a-group-with-a-name-of-more-than-a-hundred-characters-'.repeat(2)
let server: Program
let delayed: string
let done: string

beforeAll(async () => {
  server = await startProgram({ handlers: join(root, 'handlers/index.ts') })
  const labels = { delay: '1h', group: LONG, tags: { customer: '42' } }
  delayed = await server.submit('example', { duration: 0 }, labels)
  done = await server.submit('example', { duration: 0 })
  xqueue('watch', done)
})

/** A terminal with colors, independent of the environment of the tests. */
const env = (more = {}) => ({
  ...process.env,
  XQUEUE_SERVER: server.url,
  TERM: 'xterm-256color',
  CI: undefined,
  NO_COLOR: undefined,
  ...more,
})

function xqueue(...args: string[]): SpawnSyncReturns<string> {
  return spawnSync(process.execPath, [main, ...args], { encoding: 'utf8', env: env() })
}

/** The output on a terminal of that width. */
function onTerminal(columns: number, args: string[], more: Record<string, string> = {}): string {
  const command = [process.execPath, main, ...args].map((word) => `'${word}'`).join(' ')
  const script = `stty cols ${columns} && ${command}`
  return spawnSync('script', ['-qec', script, '/dev/null'], { encoding: 'utf8', env: env(more) }).stdout
}

const ESCAPE = '\u001b'

it.each([80, 200])('fits its tables to a terminal of %i columns, and does not cut ids', (columns) => {
  for (const command of ['list', 'types', 'workers']) {
    const lines = stripVTControlCharacters(onTerminal(columns, [command]))
      .trimEnd()
      .split(/\r?\n/)
    expect(lines.length, command).toBeGreaterThan(1)
    expect(
      lines.filter((line) => widthOf(line) > columns),
      command,
    ).toEqual([])
  }
  expect(onTerminal(columns, ['list'])).toContain(delayed)
})

it('colors a terminal and shows relative times there, unless NO_COLOR is set', () => {
  const colored = onTerminal(120, ['list'])
  expect(colored).toContain(`${ESCAPE}[32m✓ success${ESCAPE}[39m`)
  expect(colored).toMatch(/ ago/)
  expect(onTerminal(120, ['list'], { NO_COLOR: '1' })).not.toContain(ESCAPE)
})

it('prints full times, plain statuses and no escape codes to a pipe', () => {
  const { stdout } = xqueue('list')
  expect(stdout).not.toContain(ESCAPE)
  expect(stdout).toMatch(new RegExp(`${done} +example +success +1 +\\d{4}-\\d\\d-\\d\\dT`))
  expect(stdout).toContain(LONG)
})

it('shows a task as a page, with the reason why it waits', () => {
  const page = xqueue('get', delayed).stdout
  expect(page).toMatch(/^status +pending$/m)
  expect(page).toMatch(/^tags +customer:42$/m)
  expect(page).toMatch(/Why it waits:\n {2}It is delayed until \d{4}-/)
  expect(page).toContain('Payload:\n  {\n    "duration": 0\n  }')
  expect(xqueue('get', done).stdout).toContain('Result:')
  expect(JSON.parse(xqueue('get', delayed, '--json').stdout)).toMatchObject({ id: delayed, status: 'pending' })
})

it('explains why a task does not run', () => {
  expect(xqueue('explain', delayed).stdout).toMatch(/^It is delayed until /)
  expect(xqueue('explain', done).stdout).toBe('It has ended.\n')
  expect(JSON.parse(xqueue('explain', delayed, '--json').stdout)).toMatchObject({ reason: 'delayed' })
  expect(xqueue('explain', 'none')).toMatchObject({ status: 1 })
})

it('waits for a task and prints its result', () => {
  const { stdout, status } = xqueue('submit', 'example', '{"duration": 0}', '--wait')
  expect(stdout).toMatch(/^\S+ success\n\{\n {2}"slept": 0\n\}\n$/)
  expect(status).toBe(0)
})

it('takes a terminal of unknown width for one of 80 columns', () => {
  const [, line] = stripVTControlCharacters(onTerminal(0, ['list', '--limit', '1'])).split(/\r?\n/)
  expect(line).toContain('✓ success')
})

it.each([
  ['limits s', 'set'],
  ['limits set gpu --m', '--max'],
  ['schedule add daily --timez', '--timezone'],
  ['keys create --sc', '--scopes'],
  ['list --status f', 'failed'],
  ['limit example --group-turns t', 'tasks time'],
  ['hold ex', 'example'],
  ['pause ex', 'example'],
])('completes `xqueue %s` in bash', (typed, expected) => {
  const words = ['xqueue', ...typed.split(' ')]
  const script = `${xqueue('completion', 'bash').stdout}
xqueue() { '${process.execPath}' '${main}' "$@"; }
COMP_WORDS=(${words.map((word) => `'${word}'`).join(' ')}) COMP_CWORD=${words.length - 1}
_xqueue; echo "\${COMPREPLY[*]}"`
  expect(spawnSync('bash', ['-c', script], { encoding: 'utf8', env: env() }).stdout.trim()).toBe(expected)
})

it('lists types with their limits, and only their names for completion', () => {
  expect(xqueue('types').stdout).toMatch(/^example +\d+ +\d+\/3 +–/m)
  expect(xqueue('types', '--names').stdout.trim().split('\n').sort()).toEqual(['email', 'example', 'http'])
  const completion = xqueue('completion', 'bash').stdout
  expect(completion).toContain('--status) COMPREPLY=($(compgen -W "pending processing success failed canceled timeout"')
  expect(spawnSync('bash', ['-n'], { input: completion }).status).toBe(0)
})

it('shows statistics, and refreshes them only on a terminal', () => {
  expect(xqueue('stats').stdout).toMatch(/^pending +1 {2}1 delayed$/m)
  expect(xqueue('list', '--watch')).toMatchObject({
    status: 2,
    stderr: expect.stringContaining('--watch needs a terminal'),
  })
})

it('groups commands and options in the help, the general options last', () => {
  const help = xqueue('--help').stdout
  expect(help.match(/^\S.*:$/gm)).toEqual([
    'Options:',
    'Start:',
    'Tasks:',
    'Types, schedules and workers:',
    'Operation:',
    'Shell:',
  ])
  expect(xqueue('list', '--help').stdout.match(/^\S.*:$/gm)).toEqual([
    'Filter:',
    'Options:',
    'General options:',
    'Examples:',
  ])
  const worker = xqueue('worker', '--help').stdout
  expect(worker).toContain('--concurrency')
  expect(worker).not.toContain('--oidc-issuer')
})

it('removes control characters from data of users', () => {
  expect(plain(`a${ESCAPE}[31mb\nc`)).toBe('a�[31mb c')
  expect(table(['A'], [[`x${ESCAPE}[2J`]])).not.toContain(ESCAPE)
})

it('writes durations in their two largest units', () => {
  expect([0, 999, 1_000, 61_000, 3_600_000, 90_061_000].map(durationText)).toEqual([
    '0ms',
    '999ms',
    '1s',
    '1m 1s',
    '1h',
    '1d 1h',
  ])
})

it('shows the attempts of a task with their errors, frames of libraries folded', async () => {
  await server.call('POST', '/types/tried', { declared: true })
  const id = await server.submit('tried', {}, { max_retry: 5 })
  const stack = [
    'at mine (/app/handlers.ts:1:1)\u001b[31m',
    'at a (/app/node_modules/x/a.js:1:1)',
    'at b (node:events:5:1)',
  ]
  for (const why of ['first', 'second']) {
    const [{ lease }] = (await server.call('POST', '/tasks/consume', { types: ['tried'], wait: 30 })).body.leases
    await server.call('POST', `/leases/${lease}/fail`, { error: [`Error: ${why}`, ...stack].join('\n    '), delay: 0 })
  }
  const { stdout } = xqueue('get', id)
  expect(stdout).toMatch(/Attempts:\n {2}#1 failed .*\n {5}Error: first\n {9}at mine .*\n {9}… 2 frames of libraries\n/)
  // The last error has its own section above.
  expect(stdout).toMatch(/Error:\n {2}Error: second\n {6}at mine .*\n {6}… 2 frames of libraries\n/)
  expect(stdout).toMatch(/#2 failed .*, ran .*\n {5}Error: second\n?$/)
  expect(stdout).not.toContain('\u001b')
  expect(xqueue('explain', id).stdout).toMatch(/#1 failed .*\n {3}Error: first\n#2 failed .*\n {3}Error: second/)
  for (const columns of [80, 100]) expect(onTerminal(columns, ['list', '--type', 'tried'])).toContain('Error: second')
  // A task with one attempt shows nothing twice.
  expect(xqueue('get', done).stdout).not.toContain('Attempts:')
})

it('tells the attempts of a task that was run again from those before', async () => {
  await server.call('POST', '/types/again', { declared: true })
  const id = await server.submit('again', {}, { max_retry: 0 })
  for (const message of ['one', 'two']) {
    if (message === 'two') await server.call('POST', `/tasks/${id}/retry`)
    const consumed = await server.call('POST', '/tasks/consume', { types: ['again'], wait: 30 })
    const failure = { error: message, logs: [{ message }] }
    await server.call('POST', `/leases/${consumed.body.leases[0].lease}/fail`, failure)
  }
  expect(xqueue('get', id).stdout).toMatch(/#1 failed .*\n {5}one\n {2}run again\n {2}#1 failed .*\n {5}two/)
  expect(xqueue('logs', id).stdout).toMatch(/^attempt 1\n.* one\nattempt 1, delivery \d+\n.* two\n$/)
})

it('prints the log of a task by attempt, and follows it until the task has ended', async () => {
  await server.call('POST', '/types/speaks', { declared: true })
  const id = await server.submit('speaks', {}, { max_retry: 5 })
  const claim = async () =>
    (await server.call('POST', '/tasks/consume', { types: ['speaks'], wait: 30 })).body.leases[0].lease
  const first = await claim()
  const fields = { bytes: 7, err: 'Error: odd\n    at mine' }
  await server.call('POST', `/leases/${first}/heartbeat`, {
    logs: [{ message: 'one \u001b[31m', level: 'warn', fields }],
  })
  const follows = spawn(process.execPath, [main, 'logs', id, '--follow'], { env: env(), stdio: ['ignore', 'pipe', 2] })
  let followed = ''
  const seen = (text: string) => vi.waitFor(() => expect(followed).toContain(text), { timeout: 30_000 })
  follows.stdout!.on('data', (chunk) => {
    followed += chunk
  })
  await seen('one')
  await server.call('POST', `/leases/${first}/fail`, { error: 'no', delay: 0, logs: [{ message: 'two' }] })
  await server.call('POST', `/leases/${await claim()}/complete`, { logs: [{ message: 'three' }] })
  await once(follows, 'close')
  const line = /\d{4}-\S+Z/.source
  expect(followed).toMatch(
    new RegExp(
      `^attempt 1\n${line} warn  one \ufffd\\[31m \\{"bytes":7\\}\n    Error: odd\n        at mine\n` +
        `${line} info  two\nattempt 2\n${line} info  three\n$`,
    ),
  )
  expect(
    xqueue('logs', id, '--json')
      .stdout.trim()
      .split('\n')
      .map((text) => JSON.parse(text).n),
  ).toEqual([1, 2, 3])
  expect(xqueue('get', id).stdout).toMatch(/Log:\n {2}\S+ warn {2}one/)
})

it('accepts the beginning of an id, and names the tasks if it is not enough', async () => {
  expect(xqueue('get', delayed.slice(0, 35)).stdout).toContain(delayed)
  expect(xqueue('explain', `${delayed.slice(0, 30)}…`).stdout).toMatch(/^It is delayed/)
  const beginning = [...delayed].findIndex((char, at) => char !== done[at])
  const { status, stderr } = xqueue('cancel', delayed.slice(0, beginning), '--json')
  expect(status).toBe(2)
  expect(stderr).toContain(`${delayed}  example  pending`)
  expect(stderr).toContain(`${done}  example  success`)
  expect(xqueue('get', 'ffffffff').stderr).toBe('xqueue: no task has an id that begins with "ffffffff"\n')
  expect(xqueue('logs', delayed.slice(0, 35), '--json').status).toBe(0)
})

it('finds the beginning of an id behind thousands of newer tasks', async () => {
  const id = await server.submit('example', {}, { delay: '1h', batch: 'behind' })
  const tasks = Array.from({ length: 1_000 }, () => ({ type: 'example', delay: '1h', batch: 'behind' }))
  for (let n = 0; n < 6; n++) await server.call('POST', '/tasks/batch', { tasks })
  expect(JSON.parse(xqueue('get', id.slice(0, 15), '--json').stdout)).toMatchObject({ id })
  await server.call('DELETE', '/batches/behind')
})

it('shows the hold, the waiting tasks and the holders of a limit', () => {
  xqueue('hold', 'email', '1h')
  expect(xqueue('limit', 'email').stdout).toMatch(/^running +0 of 5\n(.*\n)*waiting +0\nstate +held until \d{4}-/m)
  expect(xqueue('limits', 'list').stdout).toMatch(/^type:email +0 +5 +0 +held until \d{4}-/m)
  expect(JSON.parse(xqueue('limit', 'email', '--json').stdout)).toMatchObject({ paused: false, waiting: 0 })
  xqueue('resume', 'email')
  expect(xqueue('limit', 'email').stdout).toMatch(/^state +on$/m)
})

it.each([
  [['submit', 'example', '{}', '--priority', '22'], '--priority must be <= 10'],
  [['submit', 'example', '{"duration": "x"}'], 'payload.duration must be number'],
  [['submit', 'example', '--tag', 'x'], '--tag x must be a key and a value, such as customer:42'],
  [['list', '--status', 'foo'], '--status must be one of pending, processing, '],
  [
    ['list', '--created-after', '2020'],
    '--created-after "2020" is not a time: use an age such as 2h or 30m, up to 366d',
  ],
  [
    ['list', '--created-after', '1h', '--created-before', '2h'],
    '--created-after must not be later than created_before',
  ],
  [['list', '--error', ''], '--error must'],
  [['limits', 'get', 'gpu'], 'there is no limit "gpu": create it with `xqueue limits set NAME`'],
  [
    ['submit', 'example', '--uses', 'gpu=1'],
    'there is no limit "gpu": declare it in a handler (`limits`), or with `xqueue',
  ],
  [['hold', 'email', '20x'], 'the time: "20x" is not a duration'],
  [['limits', 'hold', 'type:email', '30h'], 'the time must be at most 24 hours'],
  [['schedule', 'show', 'none'], 'schedule "none" not found: see `xqueue schedule list`'],
  [['schedule', 'add', 's', 'example', '--cron', '*'.repeat(201)], '--cron must not have more than 200 characters'],
  [['lst'], "unknown command 'lst'\n(Did you mean list?)"],
  [['limits', 'lst'], "unknown command 'lst'\n(Did you mean list?)\n(see xqueue limits --help)"],
])('xqueue %s fails in words of the command line', (args, message) => {
  const { status, stderr } = xqueue(...args)
  expect(stderr).toContain(`xqueue: ${message}`)
  expect(stderr).not.toMatch(/\b(body|querystring|PUT|POST|PATCH)\b|\/api\//)
  // Each problem once.
  expect(stderr.split(message)).toHaveLength(2)
  expect(status).toBeGreaterThan(0)
})

it('a command loads its own part of the program only', () => {
  const hook = `import { registerHooks } from 'node:module'
    registerHooks({ load: (url, context, next) => (process.stderr.write(url + '\\n'), next(url, context)) })`
  const flags = ['--import', `data:text/javascript,${encodeURIComponent(hook)}`]
  const { stderr } = spawnSync(process.execPath, [...flags, main, 'list'], { encoding: 'utf8', env: env() })
  const loaded = stderr.split('\n').filter((url) => url.startsWith('file:'))
  expect(loaded.some((url) => url.endsWith('/cli/tasks.ts'))).toBe(true)
  expect(loaded.filter((url) => /\/(access|server|store|queue|worker|notify)\/|fastify|\/uuid\//.test(url))).toEqual([])
  expect(loaded.length).toBeLessThan(45)
})

it('a command in a clone does not load the compiler of TypeScript again', () => {
  const names = `process.on('exit', () => process.stderr.write(process.moduleLoadList.join(' ')))`
  const NODE_OPTIONS = `--import=data:text/javascript,${encodeURIComponent(names)}`
  const { xqueue: script } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).scripts
  const PATH = `${dirname(process.execPath)}:${process.env.PATH}`
  const options = {
    cwd: root,
    encoding: 'utf8',
    env: env({ PATH, NODE_OPTIONS, NODE_COMPILE_CACHE: undefined }),
  } as const
  const list = () => spawnSync('sh', ['-c', `${script} list`], options)
  expect(list()).toMatchObject({ status: 0 })
  const { stderr } = list()
  expect(stderr).toContain('NativeModule _http_client')
  expect(stderr).not.toContain('amaro')
})

it('a key is created on a terminal without a line for the audit log, and listed with its rate', () => {
  const engine = ['--engine', `sqlite:${join(server.folder, 'keys.db')}`]
  const created = onTerminal(120, ['keys', 'create', 'shop', '--scopes', 'read', '--rate', '100/1m', ...engine])
  expect(created).toContain('is not shown again')
  expect(created).not.toContain('audit')
  expect(xqueue('keys', 'create', 'other', '--scopes', 'read', ...engine).stderr).toContain('"audit":true')
  expect(xqueue('keys', 'list', ...engine).stdout).toMatch(/^shop .* 100 in 1m /m)
})

it('a task that runs for the first time was handed out once', async () => {
  const id = await server.submit('example', { duration: 60 })
  await vi.waitFor(() => expect(xqueue('get', id).stdout).toMatch(/^attempts +0 of 4, handed out once$/m))
  expect(xqueue('cancel', id).status).toBe(0)
})

it('tasks are selected by a tag with an equals sign', () => {
  expect(xqueue('list', '--tag', 'customer=42').stdout).toContain(delayed)
  expect(xqueue('list', '--tag', 'customer=43').stdout).not.toContain(delayed)
})
