import { beforeAll, describe, expect, it, vi } from 'vitest'
import type { Scope } from '../../src/task/api-key.ts'
import type { Bounds } from '../../src/task/bounds.ts'
import { startKafka } from '../fixtures/kafka.ts'
import { Listener } from '../fixtures/mqtt-listener.ts'
import { startRedis } from '../fixtures/redis.ts'
import { startCluster } from '../fixtures/redis-cluster.ts'
import { type Server, startServer } from '../fixtures/server.ts'

/**
 * Two tenants have data of every kind, and all of it contains their marks. The test makes each call of the document
 * with the keys of one, with every reference to data of the other: no answer may contain a mark of the other. A new
 * route, parameter or field is called as well, or fails the test until `NAMED` says what to call it with.
 */

interface Tenant {
  mark: string
  type: string
  group: string | null
  key: string
  task: string
  ended: string
  lease: string
  taken: string
  batch: string
  schedule: string
}

interface Call {
  method: string
  path: string
  body: Json
}

// biome-ignore lint/suspicious/noExplicitAny: of every shape
type Json = any

const SCOPES: Scope[] = ['submit', 'read', 'work', 'admin']
/** Calls that the test leaves out: each would revoke the test's own key. */
const SKIPPED = ['DELETE /api/v1/session']

/** By the name of a parameter or field: the values that refer to data of a tenant. */
const NAMED: Readonly<Record<string, (of: Tenant) => Json[]>> = {
  id: ({ task, ended, taken, schedule }) => [task, ended, taken, schedule],
  type: ({ type }) => [type],
  task_type: ({ type }) => [type],
  types: ({ type }) => [[type]],
  name: ({ type, group, mark }) => [`type:${type}`, `group:${type}/*`, `group:${type}/${group ?? `${mark}-none`}`],
  batch: ({ batch }) => [batch],
  lease: ({ lease }) => [lease],
  group: ({ group, mark }) => [group ?? `${mark}-none`],
  after: ({ task, ended }) => [[task, ended]],
  task_id: ({ task }) => [task],
  task_ids: ({ task }) => [[task]],
  tag: ({ mark }) => [`owner:${mark}-tag`],
  tags: ({ mark }) => [{ owner: `${mark}-tag` }],
  idempotency_key: ({ mark }) => [`${mark}-key`],
  worker_id: ({ mark }) => [`${mark}-worker`],
  tasks: ({ type, task }) => [[{ type }, { type, after: [task] }]],
}
/** Values that refer to no data of a tenant. */
const PLAIN: Readonly<Record<string, Json>> = {
  ...{ status: 'pending', limit: 1_000, max: 1, per: '1m', paused: false, cron: '0 0 * * *', every: '1h' },
  ...{ error: 'no', result: 1, payload: {}, max_concurrency: 5, group_concurrency: 5, key: 'xq_wrong', wait: 0 },
}

/** Starts a store; without a URL the server has a file of its own. */
const STORES: Record<string, () => Promise<{ engine?: string }>> = {
  SQLite: async () => ({}),
  Redis: async () => ({ engine: (await startRedis()).url }),
  'Redis Cluster': async () => ({ engine: (await startCluster()).url }),
  Kafka: async () => {
    const [kafka, redis] = await Promise.all([startKafka(), startRedis()])
    return { engine: `kafka://${kafka.address}?partitions=2&state=${redis.url}` }
  },
}

describe.each([
  ['types', 'SQLite'],
  ['groups', 'SQLite'],
  ['both', 'SQLite'],
  ['types', 'Redis'],
  ['groups', 'Redis'],
  ['both', 'Redis Cluster'],
  ['both', 'Kafka'],
] as const)('tenants bound by types, groups or both: %s, on %s', (by, on) => {
  let guarded: Server
  let [one, other]: Tenant[] = []
  let operations: { method: string; path: string; params: Json[]; body: Json }[]

  beforeAll(async () => {
    // No lease of the tests ends by itself, on a slow machine too.
    guarded = await startServer({ auth: 'keys', lease: '1h', ...(await STORES[on]!()) })
    ;[one, other] = [await tenant('zebra'), await tenant('quokka')]
    const { paths, components } = (await (await fetch(`${guarded.url}/openapi.json`)).json()) as Json
    const schemaOf = (schema: Json): Json =>
      schema?.$ref ? schemaOf(components.schemas[schema.$ref.split('/').at(-1)]) : schema
    operations = Object.entries(paths).flatMap(([path, methods]) =>
      Object.entries(methods as Json).map(([method, operation]: [string, Json]) => ({
        method: method.toUpperCase(),
        path,
        params: operation.parameters ?? [],
        body: schemaOf(operation.requestBody?.content?.['application/json']?.schema)?.properties ?? null,
      })),
    )
  })

  function boundsOf(mark: string): Bounds {
    const types = by === 'groups' ? null : [`${mark}-*`]
    return { types, groups: by === 'types' ? null : [`${mark}-group`] }
  }

  /** Data of every kind, created with the keys of the tenant. */
  async function tenant(mark: string): Promise<Tenant> {
    const type = by === 'groups' ? 'shared' : `${mark}-type`
    const group = by === 'types' ? null : `${mark}-group`
    await guarded.queue.configureType(type, { declared: true })
    const key = await guarded.key(SCOPES, { name: `${mark}-admin`, bounds: boundsOf(mark) })
    const send = async (method: string, path: string, body?: object, status = 201) => {
      const answer = await guarded.as(key).call(method, path, body)
      expect(answer, JSON.stringify(answer.body)).toMatchObject({ status })
      return answer.body
    }
    const payload = { secret: `${mark}-payload` }
    const marked = { type, payload, tags: { owner: `${mark}-tag` } }
    const submit = async (more = {}) => (await send('POST', '/tasks', { ...marked, ...more })).id as string
    const take = async (): Promise<{ lease: string; task: { id: string } }> =>
      (await send('POST', '/tasks/consume', { types: [type], worker_id: `${mark}-worker` }, 200)).leases[0]
    await submit()
    const done = await take()
    await send('POST', `/leases/${done.lease}/heartbeat`, { progress: { at: `${mark}-progress` } }, 200)
    await send('POST', `/leases/${done.lease}/complete`, { result: `${mark}-result` }, 200)
    await submit({ max_retry: 0 })
    await send('POST', `/leases/${(await take()).lease}/fail`, { error: `${mark}-error`, retry: false }, 200)
    await submit()
    const { lease, task: running } = await take()
    const task = await submit({ delay: '1h', idempotency_key: `${mark}-key`, batch: `${mark}-batch` })
    await submit({ after: [task] })
    const schedule = `${mark}-schedule`
    await send('POST', '/schedules', { id: schedule, type, every: '1h', payload })
    return {
      ...{ mark, type, group, key, task, lease, schedule },
      ...{ ended: done.task.id, taken: running.id, batch: `${mark}-batch` },
    }
  }

  /** All values that would reveal the tenant; shared values are not among them. */
  function marksOf({ mark, task, ended, taken, lease }: Tenant): string[] {
    return [`${mark}-`, task, ended, taken, lease]
  }

  function fillings(names: readonly string[], of: Tenant): Record<string, Json>[] {
    const unknown = names.find((name) => !(name in NAMED))
    if (unknown !== undefined)
      throw new Error(`the parameter ${unknown} is new: say in NAMED what reaches a tenant by it`)
    return names.reduce<Record<string, Json>[]>(
      (all, name) => all.flatMap((one) => NAMED[name]!(of).map((value) => ({ ...one, [name]: value }))),
      [{}],
    )
  }

  /** Each call with data of a tenant: without parameters, with each of them, and with all of them. */
  function* callsAbout(of: Tenant): Generator<Call> {
    for (const { method, path, params, body } of operations) {
      const route = `${method} ${path}`
      if (SKIPPED.includes(route)) continue
      const inPath = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name!)
      const inQuery = params.filter((param: Json) => param.in === 'query').map(({ name }: Json) => name as string)
      const queries = [
        {},
        ...inQuery.flatMap((name: string) =>
          name in NAMED
            ? NAMED[name]!(of).map((value) => ({ [name]: value }))
            : name in PLAIN
              ? [{ [name]: PLAIN[name] }]
              : [],
        ),
      ]
      const value = (name: string) => NAMED[name]?.(of)[0] ?? PLAIN[name]
      const fields = Object.keys(body ?? {}).filter((name) => value(name) !== undefined)
      const base = Object.fromEntries(
        fields
          .filter((name) => ['type', 'types', 'task_type', 'tasks', 'error', 'id', 'key'].includes(name))
          .map((name) => [name, value(name)]),
      )
      const bodies =
        body === null ? [undefined] : [{}, base, ...fields.map((name) => ({ ...base, [name]: value(name) }))]
      for (const filled of fillings(inPath, of)) {
        const at = path.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(filled[name]))
        for (const query of queries) {
          for (const sent of bodies) yield { method, path: `${at}?${new URLSearchParams(query as never)}`, body: sent }
        }
      }
    }
  }

  async function textOf(key: string, { method, path, body }: Call): Promise<string> {
    const headers = { Authorization: `Bearer ${key}`, 'Content-Type': 'application/json', 'Last-Event-ID': '0' }
    const stop = new AbortController()
    const sent = body === undefined ? {} : { body: JSON.stringify(body) }
    if (body === undefined) headers['Content-Type'] = 'text/plain'
    const answer = await fetch(guarded.url + path, { method, headers, ...sent, signal: stop.signal })
    const head = JSON.stringify([...answer.headers])
    if (!answer.headers.get('content-type')?.startsWith('text/event-stream')) return `${head}\n${await answer.text()}`
    const first = await answer.body!.getReader().read()
    stop.abort()
    return `${head}\n${Buffer.from(first.value ?? []).toString()}`
  }

  it('a key without bounds reads the marks of both tenants everywhere', async () => {
    const all = await guarded.key(['admin'])
    const reads = [...callsAbout(other!)].filter(({ method, path }) => method === 'GET' && !path.includes('/events'))
    const seen = (await Promise.all(reads.map((call) => textOf(all, call)))).join('\n')
    const kinds = ['payload', 'result', 'error', 'tag', 'key', 'batch', 'schedule', 'worker', 'progress']
    const missing = kinds.filter((kind) => !seen.includes(`${other!.mark}-${kind}`))
    expect(missing).toEqual([])
  })

  /** The marks of the other tenant in the answers to these calls, with keys of each scope. */
  async function leaksIn(calls: Iterable<Call>, said: Set<string> = new Set()): Promise<string[]> {
    const keys = [one!.key]
    for (const scope of ['submit', 'view', 'read', 'work'] as const) {
      keys.push(await guarded.key([scope], { bounds: boundsOf(one!.mark) }))
    }
    const leaks: string[] = []
    for (const call of calls) {
      const dotted =
        (decodeURIComponent(call.path) + JSON.stringify(call.body ?? null)).match(/[\w-]+(\.[\w-]+)*/g) ?? []
      // A lease's token begins with its task.
      const words = dotted.flatMap((word) => [word, ...word.split('.')])
      if (call.method !== 'GET') for (const word of words) if (word.startsWith(other!.mark)) said.add(word)
      for (const key of keys) {
        let text = await textOf(key, call)
        // Values of the caller's own request may appear in answers and in its own tasks.
        const spoken = [...words, ...said].filter((word) => word.length > 4).sort((a, b) => b.length - a.length)
        for (const word of spoken) text = text.replaceAll(word, '')
        const leaked = marksOf(other!).filter((mark) => text.includes(mark))
        if (leaked.length > 0)
          leaks.push(`${call.method} ${call.path} ${JSON.stringify(call.body)}: ${leaked} in ${text}`)
      }
    }
    return leaks
  }

  it('no answer to one tenant shows anything of the other', async () => {
    const looks = [...callsAbout(other!), ...callsAbout(one!)].filter(({ method }) => method === 'GET')
    expect(looks.length).toBeGreaterThan(50)
    expect(await leaksIn(looks)).toEqual([])
  }, 120_000)

  it('answers for the other tenant’s tasks as for tasks that do not exist', async () => {
    const nothing: Tenant = {
      ...{ mark: 'nobody', type: 'nobody-type', group: 'nobody-group', key: '', batch: 'nobody-batch' },
      ...{ task: one!.task.replace(/.$/, '_'), ended: 'nobody-1', taken: 'nobody-2', schedule: 'nobody-schedule' },
      lease: `${one!.task.replace(/.$/, '_')}.1`,
    }
    const different: string[] = []
    for (const { method, path } of operations) {
      if (!path.includes('{') || SKIPPED.includes(`${method} ${path}`)) continue
      // Shared types and their limits belong to no tenant.
      if (by === 'groups' && /{(type|name)}/.test(path)) continue
      const names = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name!)
      const ask = async (of: Tenant, filled: Record<string, Json>) => {
        const at = path.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(filled[name]))
        const sent =
          method === 'GET'
            ? undefined
            : path.endsWith('/fail')
              ? { error: 'no' }
              : path.endsWith('rate')
                ? { max: null }
                : {}
        const answer = await guarded.as(one!.key).call(method, at.replace('/api/v1', ''), sent)
        const text = JSON.stringify(answer.body)
        return `${answer.status} ${Object.values(filled)
          .flatMap((name) => [name, name.split('.')[0]])
          .reduce((all, name) => all.replaceAll(name, '…'), text)}`
          .replaceAll(of.mark, 'mark')
          .replace(/"request_id":"[^"]*"/, '')
      }
      for (const [index, filled] of fillings(names, other!).entries()) {
        const there = await ask(other!, filled)
        const never = await ask(nothing, fillings(names, nothing)[index]!)
        if (there !== never) different.push(`${method} ${path}: ${there} but ${never}`)
      }
    }
    expect(different).toEqual([])
  })

  it('MQTT sends one tenant nothing of the other, whatever it subscribes to', async () => {
    const url = await guarded.mqttUrl(await guarded.key(['read']))
    const filters = [
      'xqueue/#',
      'xqueue/tasks/+',
      `xqueue/tasks/${other!.task}`,
      'xqueue/events/#',
      'xqueue/workers/#',
      'xqueue/stats',
    ]
    const listener = await Listener.connect(url, filters, { username: 'key', password: one!.key })
    const late = await guarded
      .as(other!.key)
      .call('POST', '/tasks', { type: other!.type, payload: `${other!.mark}-late` })
    await guarded.as(other!.key).call('DELETE', `/tasks/${late.body.id}`)
    const own = await guarded.as(one!.key).call('POST', '/tasks', { type: one!.type, delay: '1h' })
    const seen = () => listener.messages.map(({ topic, body }) => `${topic} ${JSON.stringify(body)}`)
    await vi.waitFor(() => expect(seen().some((text) => text.includes(own.body.id))).toBe(true), { timeout: 30_000 })
    await vi.waitFor(() => expect(seen().some((text) => text.startsWith('xqueue/stats '))).toBe(true), {
      timeout: 30_000,
    })
    const leaks = seen().filter((text) => [...marksOf(other!), late.body.id].some((mark) => text.includes(mark)))
    expect(leaks).toEqual([])
    await listener.close()
  })

  it('streams the statistics and the limits of its own types only', async () => {
    for (const { type } of [other!, one!]) await guarded.queue.configureType(type, { maxConcurrency: 5 })
    const { body } = await fetch(`${guarded.url}/api/v1/events?stats=true&limits=true`, {
      headers: { Authorization: `Bearer ${one!.key}` },
    })
    const reader = body!.pipeThrough(new TextDecoderStream()).getReader()
    let text = ''
    while (!/event: stats\ndata: .*\n\n/.test(text)) text += (await reader.read()).value
    while (!text.includes(`event: limit\ndata: {"name":"type:${one!.type}","max":5,`))
      text += (await reader.read()).value
    await reader.cancel()
    for (const { type } of [other!, one!]) await guarded.queue.configureType(type, { maxConcurrency: null })
    const { types, pending_tasks } = JSON.parse(/event: stats\ndata: (.*)\n/.exec(text)![1]!)
    const { body: stats } = await guarded.as(one!.key).get('/stats')
    const { body: listed } = await guarded.as(one!.key).get('/types')
    expect(pending_tasks).toBe(stats.pending_tasks)
    expect(types.map(({ type }: { type: string }) => type)).toEqual(
      listed.types.map(({ type }: { type: string }) => type),
    )
    expect(marksOf(other!).filter((mark) => text.includes(mark))).toEqual([])
  })

  it('issues no subscription token for the other tenant’s tasks, and none with more rights than its key', async () => {
    const bounded = await guarded.key(['read'], { bounds: boundsOf(one!.mark) })
    const subscribe = (body: object) => guarded.as(bounded).call('POST', '/subscriptions', body)
    expect(await subscribe({ task_ids: [other!.task] })).toMatchObject({ status: 404 })
    if (by !== 'groups') expect(await subscribe({ types: [other!.type] })).toMatchObject({ status: 404 })
    const { body } = await subscribe({ types: [one!.type] })
    const events = `/api/v1/events?access_token=${body.password}`
    const text = await fetch(guarded.url + events, { headers: { 'Last-Event-ID': '0' } }).then(async (answer) => {
      const { value } = await answer.body!.getReader().read()
      return Buffer.from(value ?? []).toString()
    })
    expect(marksOf(other!).filter((mark) => text.includes(mark))).toEqual([])
  })

  it('confines the submissions of a key: type, group, predecessors, idempotency keys', async () => {
    const submit = (body: object) =>
      guarded.as(one!.key).call('POST', '/tasks', { type: one!.type, delay: '1h', ...body })
    const { body } = await submit({ idempotency_key: `${other!.mark}-key`, batch: other!.batch })
    expect(body).toMatchObject({ idempotency_key: `${other!.mark}-key`, batch: other!.batch, group: one!.group })
    expect(body.id).not.toBe(other!.task)
    expect(await submit({ idempotency_key: `${other!.mark}-key`, payload: 2 })).toMatchObject({
      status: 409,
      body: { code: 'idempotency_conflict', task_id: body.id },
    })
    expect(await submit({ after: [other!.task] })).toMatchObject({ status: 400, body: { code: 'unknown_predecessor' } })
    if (by !== 'groups') {
      const refused = await submit({ type: other!.type })
      expect(refused).toMatchObject({ status: 400, body: { code: 'unknown_type', registered_types: [one!.type] } })
    }
    if (one!.group) {
      expect(await submit({ group: other!.group })).toMatchObject({ status: 400, body: { code: 'invalid_request' } })
    }
  })

  it('no action of one tenant shows or changes anything of the other', async () => {
    const ids = [other!.task, other!.ended, other!.taken]
    const before = await guarded.queue.get(ids)
    const changes = [...callsAbout(other!), ...callsAbout(one!)].filter(({ method }) => method !== 'GET')
    expect(changes.length).toBeGreaterThan(100)
    expect(await leaksIn(changes)).toEqual([])
    expect(await guarded.queue.get(ids)).toEqual(before)
    const schedules = (await guarded.as(other!.key).call('GET', '/schedules')).body.schedules
    expect(schedules).toMatchObject([{ id: other!.schedule, paused: false }])
  }, 240_000)
})

it('shows a key with `view` states and statistics, and no contents', async () => {
  const guarded = await startServer({ auth: 'keys' })
  const [all, view, submitter] = [
    await guarded.key(['admin']),
    await guarded.key(['view']),
    await guarded.key(['submit']),
  ]
  const submit = (key: string) =>
    guarded.as(key).call('POST', '/tasks', { type: 'quick', payload: { secret: 'hidden-1' } })
  const sent = await submit(submitter)
  expect(sent).toMatchObject({ status: 201, body: { payload: null, type: 'quick' } })
  const { id } = sent.body
  await vi.waitFor(async () => {
    expect((await guarded.as(all).call('GET', `/tasks/${id}`)).body).toMatchObject({ result: { secret: 'hidden-1' } })
  }, 30_000)
  expect(await guarded.as(view).call('GET', `/tasks/${id}`)).toMatchObject({
    status: 200,
    body: { status: 'success', payload: null, result: null, error: null, attempts: 1 },
  })
  const listed = await guarded.as(view).call('GET', '/tasks')
  expect(JSON.stringify(listed.body)).not.toContain('hidden-1')
  expect(listed.body.tasks).toHaveLength(1)
  for (const filter of ['error=guess', 'error_like=guess']) {
    const { status, body } = await guarded.as(view).call('GET', `/tasks?${filter}`)
    expect([status, body.detail]).toEqual([400, expect.stringContaining('errors are hidden')])
  }
  expect(await guarded.as(view).call('DELETE', `/tasks/${id}`)).toMatchObject({ status: 403 })
  const refused = await guarded.as(submitter).call('DELETE', `/tasks/${id}`)
  expect(JSON.stringify(refused.body)).not.toContain('hidden-1')
  const listener = await Listener.connect(await guarded.mqttUrl(all), ['xqueue/#'], { username: 'key', password: view })
  const next = await submit(all)
  await listener.until(() => expect(listener.statuses(`xqueue/tasks/${next.body.id}`).at(-1)).toBe('success'))
  expect(JSON.stringify(listener.messages)).not.toContain('hidden-1')
  await listener.close()
  await guarded.stop()
})
