import { spawnSync } from 'node:child_process'
import { globSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { trace } from '@opentelemetry/api'
import { InMemorySpanExporter, SimpleSpanProcessor, TracerProvider } from '@opentelemetry/sdk-trace'
import mqtt from 'mqtt'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openQueue } from '../../src/queue/open.ts'
import { main } from '../fixtures/root.ts'
import { type Server, startServer } from '../fixtures/server.ts'

describe('a server that receives secrets on every route', () => {
  const memory = new InMemorySpanExporter()
  const settings = {
    'token-secret': 'm4rked-token-secret-of-the-server-0123456789',
    'http-secret': 'm4rked-http-secret',
    'http-secrets': 'https://hook.example=m4rked-secret-of-a-destination',
  }
  let guarded: Server
  /** Secrets by their kind: none may appear anywhere. */
  const secrets: Record<string, string> = {}
  let answers = ''
  let metrics = ''

  beforeAll(async () => {
    trace.setGlobalTracerProvider(
      new TracerProvider({ spanProcessors: [new SimpleSpanProcessor({ exporter: memory })] }),
    )
    guarded = await startServer({ auth: 'keys', ...settings })
    const admin = await guarded.key(['admin'])
    const login = await guarded.as(null).call('POST', '/session', { key: admin })
    const session = /xqueue_session=([^;]+)/.exec(login.headers.get('set-cookie')!)![1]!
    const subscription = (await guarded.as(admin).call('POST', '/subscriptions', { types: ['quick'] })).body.password
    await guarded
      .as(admin)
      .call('POST', '/concurrency', { task_type: 'away', max_concurrency: 5 })
      .catch(() => undefined)
    await guarded.queue.configureType('away', { declared: true })
    await guarded.as(admin).call('POST', '/tasks', { type: 'away' })
    const { body } = await guarded.as(admin).call('POST', '/tasks/consume', { types: ['away'] })
    const lease = body.leases[0].lease
    expect((await guarded.as(admin).call('POST', `/leases/${lease}/heartbeat`, {})).status).toBe(200)
    expect((await guarded.as(admin).call('POST', `/leases/${lease}/complete`, {})).status).toBe(200)
    const wrong = `xq_${'W'.repeat(43)}`
    const jwt = `eyJhbGciOiJIUzI1NiJ9.${Buffer.from('{"sub":"m4rked"}').toString('base64url')}.c2lnbmF0dXJl`
    Object.assign(secrets, settings, { admin, session, subscription, lease, wrong, jwt })
    const document = (await (await fetch(`${guarded.url}/openapi.json`)).json()) as { paths: Record<string, object> }
    for (const [pattern, methods] of Object.entries(document.paths)) {
      for (const method of Object.keys(methods).map((name) => name.toUpperCase())) {
        for (const secret of [admin, session, subscription, lease, wrong, jwt]) {
          await submit(method, pattern, secret, admin)
        }
      }
    }
    const client = mqtt.connect(await guarded.mqttUrl(admin), { username: wrong, password: wrong, reconnectPeriod: 0 })
    await new Promise((resolve) => client.once('error', resolve))
    await client.endAsync(true)
    metrics = await (await fetch(`${guarded.url}/metrics`, { headers: { Authorization: `Bearer ${admin}` } })).text()
  }, 300_000)
  afterAll(async () => {
    trace.disable()
  })

  /** Calls with a secret in each field for one, and in others by mistake. */
  async function submit(method: string, pattern: string, secret: string, admin: string): Promise<void> {
    const inPath = pattern.replaceAll(/\{\w+\}/g, encodeURIComponent(secret))
    const plain = pattern.replaceAll(/\{\w+\}/g, 'none')
    const json = { 'Content-Type': 'application/json' }
    const by = { Authorization: `Bearer ${admin}` }
    const isStream = pattern === '/api/v1/events'
    const body = method === 'GET' ? {} : { body: JSON.stringify({ key: secret, types: ['none'], password: secret }) }
    for (const [path, headers] of [
      [plain, { ...json, Authorization: `Bearer ${secret}` }],
      [plain, { ...json, Authorization: `Basic ${secret}` }],
      [plain, { ...json, Cookie: `xqueue_session=${secret}` }],
      [`${plain}?access_token=${secret}`, json],
      [`${plain}?access_token=${secret}`, { ...json, ...by }],
      [inPath, by],
      [`${inPath}/more?cursor=${secret}`, { ...json, ...by }],
    ] as const) {
      // The admin key stays valid and the server up; everything else may happen.
      if (method === 'DELETE' && pattern.startsWith('/api/v1/session')) continue
      const end = new AbortController()
      // Without a body many calls are complete, and so change something.
      const sent = 'Content-Type' in headers ? body : {}
      const answer = await fetch(`${guarded.url}${path}`, { method, headers, ...sent, signal: end.signal })
      if (isStream || answer.headers.get('content-type')?.startsWith('text/event-stream')) end.abort()
      else if (path === plain) answers += await answer.text()
      else await answer.arrayBuffer()
    }
  }

  it('writes no secret into its log, the audit log, its metrics or its traces', () => {
    const log = guarded.log.join('')
    const spans = JSON.stringify(
      memory.getFinishedSpans().map(({ name, attributes, events, status }) => [name, attributes, events, status]),
    )
    expect(log).toContain('"audit":true')
    expect(log).toContain('answered')
    for (const [name, secret] of Object.entries(secrets)) {
      for (const [where, text] of Object.entries({ log, metrics, spans })) {
        expect(text.includes(secret), `${name} in ${where}`).toBe(false)
      }
      // Of a lease also its secret part.
      const hidden = name === 'lease' ? secret.slice(secret.indexOf('.') + 1) : secret
      expect(log.includes(hidden), `${name} in the log`).toBe(false)
    }
  })

  it('returns no secret in an answer', () => {
    for (const [name, secret] of Object.entries(secrets)) {
      expect(answers.includes(secret), `${name} in an answer`).toBe(false)
    }
  })

  it('stores only hashes of keys and sessions', () => {
    const folder = dirname(guarded.queue.url.slice('sqlite:'.length))
    const stored = globSync('**/*', { cwd: folder })
      .map((name) => readFileSync(join(folder, name), 'latin1'))
      .join('')
    for (const [name, secret] of Object.entries(secrets)) {
      if (name !== 'lease') expect(stored.includes(secret), `${name} in the store`).toBe(false)
    }
  })
})

describe('an error', () => {
  const secret = 'm4rked'
  it.each([
    `reddis://:${secret}@host`,
    `${secret}`,
    `redis://:a@${secret}@host`,
    `redis://:a/${secret}@host`,
    `redis://:a?${secret}@host`,
    `redis://:${secret}:9/1@host`,
    `redis+sentinel://:${secret}/x@host:1/m`,
    `kafka://u:${secret}/x@b?state=redis://h`,
    `kafka://u:a@${secret}@b?state=redis://h`,
    `kafka://u:p@b?state=redis://:${secret}/x@h`,
  ])('about the engine’s URL %s does not contain its password', async (url) => {
    const error = await openQueue(url).then(
      () => null,
      (thrown: Error) => thrown,
    )
    expect(error?.message).toBeTruthy()
    expect(error!.message).not.toContain(secret)
  })

  it.each([
    ['XQUEUE_TOKEN_SECRET', secret],
    ['XQUEUE_MQTT', `ftp://user:${secret}@host`],
    ['XQUEUE_PAYLOAD_KEYS', `2026=${secret}`],
    ['XQUEUE_ENGINE', `reddis://:${secret}@host`],
  ])('about the setting %s does not contain its value', (name, value) => {
    const folder = mkdtempSync(join(tmpdir(), 'xqueue-secrets-'))
    const env = { PATH: process.env.PATH!, [name]: value }
    const { stdout, stderr, status } = spawnSync(process.execPath, [main, 'serve'], {
      cwd: folder,
      env,
      encoding: 'utf8',
    })
    rmSync(folder, { recursive: true })
    expect(status).not.toBe(0)
    expect(stderr).toMatch(/xqueue: |must|no engine/)
    expect(stdout + stderr).not.toContain(secret)
  })
})
