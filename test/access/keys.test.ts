import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { beforeAll, describe, expect, it, vi } from 'vitest'
import { Api } from '../fixtures/api.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { endAtExit } from '../fixtures/processes.ts'
import { type RunningRedis, startRedis } from '../fixtures/redis.ts'
import { main } from '../fixtures/root.ts'
import { type Server, startServer } from '../fixtures/server.ts'

const SOON_MS = 30_000
let folder: string
let redis: RunningRedis

beforeAll(async () => {
  folder = temporaryFolder()
  redis = await startRedis()
})

function xqueue(queue: string, ...args: string[]) {
  const env = { ...process.env, XQUEUE_ENGINE: queue }
  const { stdout, stderr, status } = spawnSync(process.execPath, [main, ...args], {
    encoding: 'utf8',
    cwd: folder,
    env,
  })
  return { stdout: stdout.trim(), stderr, status }
}

/** The one line of the audit log that a command has written. */
function auditOf(stderr: string) {
  const lines = stderr.split('\n').filter((line) => line.includes('"audit":true'))
  expect(lines).toHaveLength(1)
  return JSON.parse(lines[0]!)
}

/** A server in a process of its own. */
async function serve(queue: string): Promise<{ url: string; log: () => string; stop: () => Promise<void> }> {
  const flags = ['--auth', 'keys', '--engine', queue, '--port', '0', '--mqtt-port', '0', '--log-level', 'trace']
  const child = endAtExit(
    spawn(process.execPath, [main, 'serve', ...flags], { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] }),
  )
  let log = ''
  for (const stream of [child.stdout!, child.stderr!]) stream.on('data', (chunk) => (log += chunk))
  const ready = /"address":"([^"]+)"/
  await vi.waitFor(() => expect(log).toMatch(ready), { timeout: SOON_MS, interval: 20 })
  const stop = async () => {
    child.kill('SIGKILL')
    await once(child, 'close')
  }
  return { url: ready.exec(log)![1]!, log: () => log, stop }
}

describe.each(['sqlite', 'redis'])('on %s', (kind) => {
  const queue = () => (kind === 'sqlite' ? `sqlite:${join(folder, 'x.db')}` : redis.url)

  it('the command line creates, lists and revokes a key, and two servers apply it within moments', async () => {
    const servers = [await serve(queue()), await serve(queue())]
    expect(servers[0]!.log()).toContain('there are no keys')
    const made = xqueue(queue(), 'keys', 'create', 'shop', '--scopes', 'submit,read', '--rate', '1000/1m')
    expect([made.status, made.stdout]).toEqual([0, expect.stringMatching(/^xq_[\w-]{43}$/)])
    expect(auditOf(made.stderr)).toMatchObject({ action: 'keys create', name: 'shop', scopes: ['submit', 'read'] })
    expect(made.stderr).not.toContain(made.stdout)
    const ask = (url: string) => new Api(url, made.stdout).call('GET', '/stats').then(({ status }) => status)
    const all = (status: number) =>
      vi.waitFor(async () => expect(await Promise.all(servers.map(({ url }) => ask(url)))).toEqual([status, status]), {
        timeout: SOON_MS,
      })
    await all(200)
    const listed = JSON.parse(xqueue(queue(), 'keys', 'list', '--json').stdout)
    expect(listed).toMatchObject([
      { name: 'shop', scopes: ['submit', 'read'], rate: { max: 1000, per: 60 }, sessions: 0 },
    ])
    expect(JSON.stringify(listed)).not.toContain(made.stdout)
    expect(xqueue(queue(), 'keys', 'list').stdout).toMatch(/shop +key-[0-9a-f]{12} +submit,read +1000 in 1m/)
    const revoked = xqueue(queue(), 'keys', 'revoke', 'shop')
    expect(revoked.stdout).toContain('revoked')
    expect(auditOf(revoked.stderr)).toMatchObject({
      action: 'keys revoke',
      target: listed[0].id,
      actor: expect.stringContaining('@'),
    })
    await all(401)
    expect(xqueue(queue(), 'keys', 'list', '--json').stdout).toBe('[]')
    for (const server of servers) await server.stop()
  })
})

it.each([
  [['create', 'a b', '--scopes', 'read'], 2, 'is not valid: use up to 64'],
  [['create', 'x', '--scopes', 'read,write'], 2, 'use submit, view, read, work, admin'],
  [['create', 'x'], 2, '--scopes'],
  [['create', 'x', '--scopes', 'read', '--rate', '5'], 2, 'such as 100/1m'],
  [['create', 'x', '--scopes', 'read', '--rate', '0/1m'], 2, 'such as 100/1m'],
  [['create', 'x', '--scopes', 'read', '--expires', 'soon'], 1, 'not a duration'],
  [['revoke', 'nobody'], 1, 'there are no keys'],
  [['list', '--engine', 'sqlite::memory:'], 2, 'use a file'],
])('refuses %j', (args, status, words) => {
  const answer = xqueue(`sqlite:${join(folder, 'refused.db')}`, 'keys', ...args)
  expect([answer.status, answer.stderr]).toEqual([status, expect.stringContaining(words)])
})

it('refuses a second key with the same name, and the command line uses the key of its environment', async () => {
  const queue = `sqlite:${join(folder, 'cli.db')}`
  const key = xqueue(queue, 'keys', 'create', 'cli', '--scopes', 'read', '--expires', '1h').stdout
  expect(xqueue(queue, 'keys', 'create', 'cli', '--scopes', 'read')).toMatchObject({ status: 1 })
  const server = await serve(queue)
  const run = (env: object) => {
    const options = { encoding: 'utf8', env: { ...process.env, XQUEUE_SERVER: server.url, ...env } } as const
    return spawnSync(process.execPath, [main, 'stats'], options)
  }
  expect(run({ XQUEUE_KEY: key }).stdout).toContain('pending')
  expect(run({})).toMatchObject({ status: 1, stderr: expect.stringContaining('needs a key') })
  await server.stop()
})

describe('in one process', () => {
  let guarded: Server
  beforeAll(async () => {
    guarded = await startServer({ auth: 'keys' })
  })

  it('an expired key is refused', async () => {
    const key = await guarded.key(['read'], { expiresAt: Date.now() + 2_000 })
    const status = () =>
      guarded
        .as(key)
        .call('GET', '/stats')
        .then((answer) => answer.status)
    await vi.waitFor(async () => expect(await status()).toBe(200), { timeout: SOON_MS, interval: 10 })
    await vi.waitFor(async () => expect(await status()).toBe(401), { timeout: SOON_MS })
  })

  it('a key has as many calls as its rate allows, and a refusal says when the next call is possible', async () => {
    const [few, many] = [
      await guarded.key(['read'], { rate: { max: 3, perMs: 3_600_000 } }),
      await guarded.key(['read']),
    ]
    const statuses = []
    for (let n = 0; n < 4; n++) statuses.push((await guarded.as(few).call('GET', '/stats')).status)
    expect(statuses).toEqual([200, 200, 200, 429])
    const { headers, body } = await guarded.as(few).call('GET', '/stats')
    expect(Number(headers.get('retry-after'))).toBeGreaterThan(3_000)
    expect(body).toMatchObject({ code: 'too_many_calls', detail: expect.stringContaining('3 calls in 3600 s') })
    expect((await guarded.as(many).call('GET', '/stats')).status).toBe(200)
  })

  it('the audit log has every change with its author, and no reads', async () => {
    const { token, key } = await guarded.newKey(['admin'], { name: 'ann' })
    const reader = await guarded.newKey(['read'], { name: 'ben' })
    await guarded.as(token).call('GET', '/tasks')
    const { body } = await guarded.as(token).call('POST', '/tasks', { type: 'quick', delay: 60 })
    await guarded.as(token).call('DELETE', `/tasks/${body.id}`)
    await guarded.as(token).call('POST', '/types/quick/pause')
    await guarded.as(token).call('POST', '/types/quick/resume')
    await guarded.as(token).call('POST', '/concurrency', { task_type: 'quick', max_concurrency: 4 })
    await guarded.as(token).call('POST', '/concurrency', { task_type: 'quick', max_concurrency: 0 })
    await guarded.as(reader.token).call('POST', '/types/quick/pause')
    const by = { actor: 'ann', actor_id: key.id, ip: '127.0.0.1' }
    await vi.waitFor(() => {
      const lines = guarded.audits().filter(({ actor }) => actor === 'ann' || actor === 'ben')
      expect(lines).toMatchObject([
        { ...by, action: 'POST /api/v1/tasks', target: body.id, status: 201 },
        { ...by, action: 'DELETE /api/v1/tasks/:id', target: body.id, status: 200 },
        { ...by, action: 'POST /api/v1/types/:type/pause', target: 'quick', status: 200 },
        { ...by, action: 'POST /api/v1/types/:type/resume', target: 'quick', status: 200 },
        { ...by, action: 'POST /api/v1/concurrency', target: 'quick', status: 200 },
        { actor: 'ben', action: 'POST /api/v1/types/:type/pause', target: 'quick', status: 403 },
      ])
    })
  })

  it('no answer and no log line contains a key, session or token', async () => {
    const key = await guarded.key(['admin'])
    const wrong = `xq_${'w'.repeat(43)}`
    const login = await guarded.as(null).call('POST', '/session', { key })
    const session = /xqueue_session=([^;]+)/.exec(login.headers.get('set-cookie')!)![1]!
    const subscription = (await guarded.as(key).call('POST', '/subscriptions', { task_ids: ['x'] })).body.password
    const answers = [
      login,
      await guarded.as(wrong).call('GET', '/tasks'),
      await guarded.as(null).call('POST', '/session', { key: wrong }),
      await guarded.as(null).call('GET', `/events?access_token=${key}`),
      await guarded.as(null).call('GET', `/events?access_token=${wrong}`),
      await guarded.as(null).call('GET', `/tasks?access_token=${subscription}`),
      await guarded.as(null).call('GET', `/events?stats=true&access_token=${subscription}`),
      await guarded.as(null).call('GET', `/events?limits=true&access_token=${subscription}`),
      await guarded.as(key).call('GET', '/session'),
      await guarded.as(key).call('GET', '/health'),
      await guarded.as(null).call('GET', '/stats', undefined, { Cookie: `xqueue_session=${session}` }),
      await guarded.as(null).call('DELETE', '/session', undefined, { Cookie: `xqueue_session=${session}` }),
    ]
    expect(answers.map(({ status }) => status)).toEqual([200, 401, 401, 401, 401, 401, 403, 403, 200, 200, 200, 204])
    const reported = JSON.stringify(answers.map(({ body }) => body)) + guarded.log.join('')
    expect(reported).toContain('/api/v1/events')
    for (const secret of [key, wrong, session, subscription, (await guarded.queue.keys()).secret]) {
      expect(reported).not.toContain(secret)
      expect(reported).not.toContain(secret.slice(-20))
    }
  })
})
