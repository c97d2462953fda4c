import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { SMTPServer } from 'smtp-server'
import { afterAll, afterEach, beforeAll, expect, it, vi } from 'vitest'
import { temporaryFolder } from '../fixtures/folder.ts'
import { main, root } from '../fixtures/root.ts'

const received: { url: string; body: string; headers: NodeJS.Dict<string | string[]> }[] = []
const mails: string[] = []
let folder: string
let targetUrl: string
let smtpUrl: string
let child: ChildProcess | undefined
let log: string
let base: string

const target = createServer(async (request, response) => {
  let body = ''
  for await (const chunk of request) body += chunk
  received.push({ url: request.url!, body, headers: request.headers })
  const calls = received.filter(({ url }) => url === request.url).length
  if (request.url === '/busy' && calls === 1) response.writeHead(429, { 'Retry-After': '0' })
  else if (request.url === '/gone') response.writeHead(404)
  // Its first six callers are killed while they wait.
  else if (request.url === '/held' && calls <= 6) return
  response.end('{"ok":true}')
})
const smtp = new SMTPServer({
  authOptional: true,
  disabledCommands: ['STARTTLS'],
  async onData(stream, _session, done) {
    let text = ''
    for await (const chunk of stream) text += chunk
    mails.push(text)
    done()
  },
})

beforeAll(async () => {
  folder = temporaryFolder()
  writeFileSync(join(folder, 'throws.mjs'), "throw new Error('out of order')")
  writeFileSync(join(folder, 'empty.mjs'), '')
  mkdirSync(join(folder, 'commonjs'))
  writeFileSync(join(folder, 'commonjs/package.json'), '{"type": "commonjs"}')
  writeFileSync(join(folder, 'commonjs/handlers.ts'), 'export default {}')
  await once(target.listen(0, '127.0.0.1'), 'listening')
  targetUrl = `http://127.0.0.1:${(target.address() as AddressInfo).port}`
  await once(smtp.listen(0, '127.0.0.1'), 'listening')
  smtpUrl = `smtp://127.0.0.1:${(smtp.server.address() as AddressInfo).port}`
})
afterEach(() => child?.kill('SIGKILL'))
afterAll(async () => {
  target.close()
  smtp.close()
})

// biome-ignore lint/suspicious/noExplicitAny: a task as JSON, compared field by field
type Found = any

/** `npm start`, on a free port and a database of the test's own. */
async function serve(database: string, ...flags: string[]): Promise<void> {
  const args = [main, 'serve', '--handlers', join(root, 'handlers/index.ts'), '--port', '0']
  child = spawn(process.execPath, [...args, '--engine', `sqlite:${join(folder, database)}`, ...flags], {
    cwd: folder,
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  log = ''
  child.stderr!.on('data', (chunk) => {
    log += chunk
  })
  base = await vi.waitFor(
    () => {
      const address = /"address":"([^"]+)"/.exec(log)?.[1]
      if (!address) throw new Error(`not ready yet: ${log}`)
      return address
    },
    { timeout: 30_000 },
  )
}
async function submit(type: string, payload: object, more: object = {}): Promise<string> {
  const body = JSON.stringify({ type, payload, ...more })
  const answer = await fetch(`${base}/api/v1/tasks`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body,
  })
  expect(answer.status).toBe(201)
  return ((await answer.json()) as { id: string }).id
}
const task = async (id: string) => (await fetch(`${base}/api/v1/tasks/${id}`)).json() as Promise<Found>
const until = (id: string, status: string) =>
  vi.waitFor(
    async () => {
      const found = await task(id)
      expect(found.status).toBe(status)
      return found
    },
    { timeout: 30_000 },
  )

it('sends mail and calls URLs', async () => {
  await serve('real.db', '--smtp-url', smtpUrl, '--http-allow-private', 'true', '--http-secret', 's3cret')
  const mail = { to: 'ann@example.com', from: 'bob@example.com', subject: 'Grüße', text: 'It works.' }
  const mailed = await until(await submit('email', mail), 'success')
  expect(mailed.result).toMatchObject({ sent: true })
  expect(mails.at(-1)).toContain('It works.')
  expect(mails.at(-1)).toContain(`Message-ID: <${mailed.id}@xqueue>`)

  const called = await until(await submit('http', { url: `${targetUrl}/hook`, body: { a: 1 } }), 'success')
  expect(called.result).toMatchObject({ status: 200, body: '{"ok":true}' })
  const hook = received.find(({ url }) => url === '/hook')!
  expect(hook.body).toBe('{"a":1}')
  expect(hook.headers['x-xqueue-signature']).toMatch(/^v2=[0-9a-f]{64}$/)

  expect(await until(await submit('http', { url: `${targetUrl}/busy` }), 'success')).toMatchObject({ attempts: 2 })
  expect(await until(await submit('http', { url: `${targetUrl}/gone` }), 'failed')).toMatchObject({ attempts: 1 })
})

it('writes mail to the outbox without an SMTP server, and calls no private address unless allowed', async () => {
  await serve('safe.db')
  const { result } = await until(await submit('email', { to: 'a@b.c', subject: 'x', text: 'y' }), 'success')
  expect(result).toMatchObject({ sent: false })
  expect(readFileSync((result as { file: string }).file, 'utf8')).toMatch(/^From: [\s\S]*\r\n\r\ny/)
  const refused = await until(await submit('http', { url: `${targetUrl}/private` }), 'failed')
  expect(refused.error).toContain('http-allow-private')
  await until(await submit('http', { url: 'http://localhost:1/' }, { max_retry: 0 }), 'failed')
  expect(received.some(({ url }) => url === '/private')).toBe(false)
})

it('finishes each task once after it was killed in the middle and started again', async () => {
  const flags = ['--lease', '1s', '--http-allow-private', 'true']
  await serve('killed.db', ...flags)
  const ids = await Promise.all(Array.from({ length: 6 }, () => submit('http', { url: `${targetUrl}/held` })))
  await vi.waitFor(() => expect(received.filter(({ url }) => url === '/held')).toHaveLength(6), { timeout: 30_000 })
  child!.kill('SIGKILL')
  await once(child!, 'close')
  await serve('killed.db', ...flags)
  for (const id of ids) {
    const { attempts, deliveries } = await until(id, 'success')
    expect(attempts).toBe(1)
    // A busy machine may lose the short lease once more.
    expect(deliveries).toBeGreaterThan(1)
  }
})

it('releases running tasks at SIGTERM, and exits with 0', async () => {
  await serve('term.db', '--shutdown', '0s')
  const id = await submit('example', { duration: 30 })
  await until(id, 'processing')
  child!.kill('SIGTERM')
  expect((await once(child!, 'close'))[0]).toBe(0)
  await serve('term.db')
  expect(await until(id, 'processing')).toMatchObject({ attempts: 0, deliveries: 2 })
})

it('exits at once at a second signal; the task runs again elsewhere', async () => {
  await serve('twice.db', '--shutdown', '60s', '--lease', '1s')
  const id = await submit('example', { duration: 30 })
  await until(id, 'processing')
  child!.kill('SIGTERM')
  await vi.waitFor(() => expect(log).toContain('shutting down'))
  child!.kill('SIGTERM')
  expect((await once(child!, 'close'))[0]).toBe(1)
  await serve('twice.db', '--lease', '1s')
  // A busy machine may lose the short lease once more.
  await vi.waitFor(async () => expect((await task(id)).deliveries).toBeGreaterThan(1), { timeout: 30_000 })
  expect((await task(id)).attempts).toBe(0)
})

it('is controlled from the command line', async () => {
  await serve('cli.db')
  let input = '{"type":"example","payload":{"duration":0}}\n'.repeat(3)
  const run = (...args: string[]) => {
    const { stdout, stderr, status } = spawnSync(process.execPath, [main, ...args], {
      encoding: 'utf8',
      env: { ...process.env, XQUEUE_SERVER: base },
      input,
    })
    return { stdout: stdout.trim(), stderr, status }
  }
  expect(run('submit', 'example', '{"duration":0.1}', '--wait')).toMatchObject({
    status: 0,
    stdout: expect.stringContaining('success'),
  })
  expect(run('submit', 'nope')).toMatchObject({ status: 1, stderr: expect.stringContaining('email, example, http') })
  expect(run('submit', 'example', '{bad')).toMatchObject({
    status: 2,
    stderr: expect.stringContaining('is not valid JSON'),
  })
  expect(run('submit', '--file', '-', '--json').stdout).toContain('"submitted":3')
  // With a byte order mark, line ends of Windows, and line separators of JavaScript.
  const separated = 'a\u2028b\u2029c'
  const line = JSON.stringify({ type: 'example', payload: { duration: 0 }, tags: { file: separated } })
  input = `\uFEFF${line}\r\n\r\n${line}`
  expect(run('submit', '--file', '-', '--json')).toMatchObject({ status: 0 })
  expect(run('list', '--tag', `file:${separated}`, '--json').stdout.split(separated)).toHaveLength(3)
  const id = run('submit', 'example', '{"duration":60}').stdout
  expect(run('watch', run('submit', 'example', '{"duration":0.2}').stdout).stdout).toContain('success')
  expect(JSON.parse(run('get', id, '--json').stdout)).toMatchObject({ id, type: 'example' })
  expect(run('cancel', id).status).toBe(0)
  expect(run('limit', 'example', '7').stdout).toContain('7')
  const set = run('limit', 'example', '--group-limit', '2', '--rate', '90/1m', '--json').stdout
  expect(JSON.parse(set)).toEqual({
    task_type: 'example',
    max_concurrency: 7,
    group_concurrency: 2,
    rate: { max: 90, per: 60 },
  })
  run('limit', 'example', '--group-limit', 'none', '--rate', 'none', '--group-turns', 'time')
  const cleared = { group_concurrency: null, rate: null, group_turns: 'time' }
  expect(JSON.parse(run('limit', 'example', '--json').stdout)).toMatchObject(cleared)
  for (const wrong of [
    ['--rate', '5'],
    ['--group-limit', 'x'],
    ['--group-turns', 'x'],
  ])
    expect(run('limit', 'example', ...wrong).status).toBe(2)
  run('submit', 'example', '{"duration": 0}', '--group', 'acme', '--wait')
  expect(run('list', '--group', 'acme', '--json').stdout).toContain('"group":"acme"')
  expect(run('pause', 'example').stdout).toBe('example paused')
  for (const command of ['list', 'stats', 'workers']) expect(run(command).status).toBe(0)
  expect(run('cancel').status).toBe(2)
  const { host, port } = { host: '127.0.0.1', port: new URL(base).port }
  const healthy = run('doctor', '--engine', 'sqlite::memory:', '--host', host, '--port', port)
  expect(healthy).toMatchObject({ status: 0, stdout: expect.stringContaining('an XQueue server already runs') })
  const none = join(folder, 'none.db')
  const first = run('doctor', '--engine', `sqlite:${none}`, '--host', host, '--port', port)
  expect(first).toMatchObject({
    status: 0,
    stdout: expect.stringContaining('does not exist: the first process creates it'),
  })
  expect(existsSync(none)).toBe(false)
  const sickFlags = [
    '--engine',
    'sqlite:/nowhere/x.db',
    '--port',
    new URL(targetUrl).port,
    '--mqtt',
    'mqtt://127.0.0.1:9',
  ]
  const sick = run('doctor', '--json', ...sickFlags)
  expect(sick.status).toBe(1)
  const failed = JSON.parse(sick.stdout).filter(({ ok }: { ok: boolean }) => !ok)
  expect(failed.map(({ check }: { check: string }) => check)).toEqual(['engine', 'port', 'mqtt'])
  expect(run('nonsense').status).toBe(2)
  expect(run('stats', '--server', 'http://127.0.0.1:9').status).toBe(3)
})

it('submits tasks that wait for each other from the command line, and follows their batch', async () => {
  await serve('flows.db')
  const run = (args: string[], ...lines: (object | '')[]) => {
    const input = lines.map((line) => (line === '' ? line : JSON.stringify(line))).join('\n')
    const env = { ...process.env, XQUEUE_SERVER: base }
    const { stdout, stderr, status } = spawnSync(process.execPath, [main, ...args], { encoding: 'utf8', env, input })
    return { stdout: stdout.trim(), stderr, status }
  }
  const example = (duration: number, more: object = {}) => ({ type: 'example', payload: { duration }, ...more })
  const file = ['submit', '--file', '-']

  const first = run(['submit', 'example', '{"duration": 1}', '--batch', 'one by one']).stdout
  const flags = ['--after', first, '--on-failure', 'run', '--batch', 'one by one']
  const second = run(['submit', 'example', '{"duration": 0}', ...flags]).stdout
  expect(await task(second)).toMatchObject({ after: [first], on_failure: 'run', batch: 'one by one' })
  expect(JSON.parse(run(['batch', 'one by one', '--wait', '--json']).stdout)).toMatchObject({ total: 2, success: 2 })

  const graph = [
    example(0.1, { after: [] }),
    example(0.1, { after: [0] }),
    example(0.1, { after: [0, 1], batch: 'own' }),
  ]
  const alone = run(file, ...graph)
  expect([alone.status, alone.stderr]).toEqual([
    2,
    expect.stringContaining('line 2 has the position 0 in after: submit the file in one call with --together'),
  ])
  expect(run([...file, '--together', '--batch', 'graph', '--json'], ...graph).stdout).toContain('"submitted":3')
  expect(JSON.parse(run(['list', '--batch', 'own', '--json']).stdout)[0].after).toHaveLength(2)
  expect(run(['batch', 'graph', '--wait'])).toMatchObject({
    status: 0,
    stdout: expect.stringMatching(/^total +2\n(.+\n)*success +2\n(.+\n)*progress +100 %\n/m),
  })

  const wrong = run([...file, '--together'], example(0), '', example(0, { after: [3] }), example(0, { after: [0, 7] }))
  expect(wrong.status).toBe(1)
  expect(wrong.stderr).toContain('xqueue: line 3: after[0] is 3')
  expect(wrong.stderr).toMatch(/^0 tasks were submitted before this error:/)
  const many = run([...file, '--together'], ...Array.from({ length: 10_001 }, () => example(0)))
  expect([many.status, many.stderr]).toEqual([2, expect.stringContaining('the file has more than 10000 lines')])
  expect(run([...file, '--group', 'acme'], example(0))).toMatchObject({
    status: 2,
    stderr: expect.stringContaining('--group belongs to a single task'),
  })
  expect(run(['submit', 'example', '--together']).status).toBe(2)

  run([...file, '--together', '--batch', 'bad'], example(60), example(0, { after: [0] }), example(0, { after: [1] }))
  expect(run(['cancel', '--batch', 'bad', '--type', 'email', '--yes']).stdout).toBe('0 tasks')
  expect(run(['cancel', '--batch', 'bad', '--yes']).stdout).toBe('3 tasks')
  expect(run(['batch', 'bad', '--wait'])).toMatchObject({ status: 1, stdout: expect.stringMatching(/^canceled +3$/m) })
  expect(run(['batch', 'bad'])).toMatchObject({ status: 0, stdout: expect.stringMatching(/^done +true$/m) })
  expect(run(['retry', '--batch', 'bad', '--yes']).stdout).toBe('3 tasks')
  run(['cancel', '--batch', 'bad', '--yes'])
  expect(run(['retry', '--batch', 'none', '--yes']).stderr).toContain('batch "none" not found')
  expect(run(['batch', 'none'])).toMatchObject({
    status: 1,
    stderr: expect.stringContaining('batch "none" not found'),
  })
})

it.each(['bash', 'zsh'])('completes commands and flags in %s', (shell) => {
  const script = spawnSync(process.execPath, [main, 'completion', shell], { encoding: 'utf8' }).stdout
  const ask = (...words: string[]) => {
    const set = `COMP_WORDS=(xqueue ${words.map((word) => `'${word}'`).join(' ')}); COMP_CWORD=${words.length}`
    return spawnSync(
      'bash',
      ['-c', `${script.replace(/^autoload.*$/m, '')}\n${set}; _xqueue; echo "\${COMPREPLY[@]}"`],
      {
        encoding: 'utf8',
      },
    ).stdout.trim()
  }
  expect(ask('comp')).toBe('completion')
  expect(ask('submit', '--fi')).toBe('--file')
})

it.each([
  [['--port', 'x'], /port is "x" \(from --port\): it must be an integer/],
  [['--lease', '0s'], /lease/],
  [['--engine', 'kafka://x'], /state= is missing/],
  [['--handlers', 'none.ts'], /does not exist/],
  [['--handlers', 'empty.mjs'], /exports no handlers/],
  [['--handlers', 'commonjs/handlers.ts'], /uses import or export.*npm pkg set type=module/],
])('does not start with %j, and gives the reason in one line', (flags, message) => {
  const { stderr, status } = spawnSync(process.execPath, [main, 'serve', ...flags], { encoding: 'utf8', cwd: folder })
  expect(status).toBe(2)
  expect(stderr).toMatch(message)
  expect(stderr).not.toContain('    at ')
})

it('does not start with a handlers file that throws, and shows the line', () => {
  const args = [main, 'serve', '--handlers', 'throws.mjs']
  const { stderr, status } = spawnSync(process.execPath, args, { encoding: 'utf8', cwd: folder })
  expect([status, stderr]).toEqual([2, expect.stringMatching(/cannot be loaded: Error: out of order\n.*throws\.mjs:1/)])
})

it('reports a misspelled setting in the environment, and a port that is in use', async () => {
  const env = { ...process.env, XQUEUE_CONCURENCY: '5' }
  const { stderr, status } = spawnSync(process.execPath, [main, 'config'], { encoding: 'utf8', cwd: folder, env })
  expect([status, stderr]).toEqual([2, expect.stringContaining('did you mean concurrency?')])
  const { port } = target.address() as AddressInfo
  const taken = spawnSync(process.execPath, [main, 'serve', '--port', String(port), '--engine', 'sqlite::memory:'], {
    encoding: 'utf8',
  })
  expect([taken.status, taken.stderr]).toEqual([2, expect.stringContaining('in use')])
})
