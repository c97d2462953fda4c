import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { isLong } from '../fixtures/long.ts'
import { type Program, startProgram } from '../fixtures/program.ts'

let program: Program
let calls: { path: string; fields: string[] }[]
beforeAll(async () => {
  program = await startProgram({ guarded: true })
  // biome-ignore lint/suspicious/noExplicitAny: an OpenAPI document
  const document = (await (await fetch(`${program.url}/openapi.json`)).json()) as any
  // Every call with a body; unknown names suffice, because the body is read before the lookup.
  calls = Object.entries<typeof document>(document.paths)
    .filter(([, { post }]) => post?.requestBody)
    .map(([path, { post }]) => {
      const name = post.requestBody.content['application/json'].schema.$ref.split('/').at(-1)
      const properties = Object.keys(document.components.schemas[name].properties)
      return { path: path.replace('/api/v1', '').replaceAll(/\{(\w+)\}/g, 'echo'), fields: fieldsOf(properties) }
    })
})

/** A call refuses all fields that it does not have in the same way, so one of them suffices. */
function fieldsOf(properties: readonly string[]): string[] {
  if (isLong) return FIELDS
  const unknown = FIELDS.find((field) => !properties.includes(field))!
  return [...FIELDS.filter((field) => properties.includes(field)), unknown]
}

const FIELDS = [
  'payload',
  'result',
  'progress',
  'tags',
  'tasks',
  'types',
  'type',
  'key',
  'delay',
  'wait',
  'max',
  'error',
]
const deep = (levels: number, open = '[', close = ']') => open.repeat(levels) + close.repeat(levels)

/** Sends a text to every call, alone and as each field; returns the statuses. Each answer must be a problem. */
async function everywhere(text: string): Promise<Map<number, number>> {
  const statuses = new Map<number, number>()
  for (const { path, fields } of calls) {
    const bodies = [text, ...fields.map((field) => `{"type":"echo","${field}":${text}}`)]
    for (const sent of bodies) {
      const { status, body } = await program.call('POST', path, sent)
      statuses.set(status, (statuses.get(status) ?? 0) + 1)
      if (status >= 400)
        expect(body, `${path} ${sent.slice(0, 80)}`).toMatchObject({ status, code: expect.any(String) })
    }
  }
  return statuses
}

async function ended(type: string, payload: unknown) {
  const { body } = await program.call('POST', '/tasks', { type, payload })
  await vi.waitFor(
    async () => expect((await program.call('GET', `/tasks/${body.id}`)).body.completed_at).not.toBeNull(),
    {
      timeout: 20_000,
    },
  )
  return (await program.call('GET', `/tasks/${body.id}`)).body
}

afterAll(async () => expect(program.faults).toEqual([]))

describe('JSON', () => {
  it.each([
    ['100,000 nested lists', deep(100_000)],
    ['100,000 nested objects', `${'{"a":'.repeat(100_000)}1${'}'.repeat(100_000)}`],
    ['unclosed lists', '['.repeat(100_000)],
    ['129 nested lists', deep(129)],
    ['100,000 fields', `{${Array.from({ length: 100_000 }, (_, at) => `"${at}":0`).join()}}`],
    ['300,000 elements', `[${'0,'.repeat(300_000)}0]`],
    ['a number of 100,000 digits', '9'.repeat(100_000)],
    ['a number beyond the range of numbers', '1e999'],
    ['an incomplete character', '"\\ud800"'],
    ['a NUL', '"\\u0000"'],
    ['megabytes of text', JSON.stringify('x'.repeat(3 * 1024 * 1024))],
  ])('of %s is accepted or refused in every body', { timeout: 120_000 }, async (_, text) => {
    const statuses = await everywhere(text)
    expect([...statuses.keys()].filter((status) => status >= 500)).toEqual([])
    expect((await program.call('GET', '/health')).body.status).toBe('healthy')
  })

  it('with too many levels is refused with its field', async () => {
    const { status, body } = await program.call('POST', '/tasks', `{"type":"remote","payload":${deep(129)}}`)
    expect([status, body.errors]).toEqual([400, [{ path: 'payload', message: 'is nested deeper than 128 levels' }]])
    expect((await program.call('POST', '/tasks', `{"type":"echo","payload":${deep(128)}}`)).status).toBe(201)
    expect(await ended('deep', 128)).toMatchObject({ status: 'success' })
    expect(await ended('deep', 100_000)).toMatchObject({ status: 'failed', error: expect.stringContaining('result') })
  })
})

describe('prototypes', () => {
  const POISONS = [
    '{"__proto__":{"polluted":1}}',
    '{"constructor":{"prototype":{"polluted":1}}}',
    '{"a":[{"__proto__":{"polluted":1}}]}',
    '{"__pr\\u006fto__":{"polluted":1}}',
    '"__proto__"',
    '["__proto__","constructor"]',
    '{"constructor":1,"hasOwnProperty":null,"toString":"x","valueOf":0,"then":{}}',
  ]

  it('are not changed by any name in a body', { timeout: 120_000 }, async () => {
    const before = await ended('prototype', {})
    for (const text of POISONS) {
      const statuses = await everywhere(text)
      expect([...statuses.keys()].filter((status) => status >= 500)).toEqual([])
    }
    expect((await program.call('POST', '/types/__proto__/pause')).status).toBe(400)
    expect((await program.call('POST', '/types/constructor/pause')).status).toBe(404)
    expect((await program.call('POST', '/tasks/__proto__/retry')).status).toBe(404)
    for (const query of ['tag=__proto__:x', 'type=constructor', '__proto__=x', 'group=__proto__', 'toString=1']) {
      expect((await program.call('GET', `/tasks?${query}`)).status).toBeLessThan(500)
    }
    for (const name of ['__proto__', 'constructor', 'toString', 'hasOwnProperty']) {
      const { status, body } = await program.call('POST', '/tasks', { type: name })
      expect([status, body.code]).toEqual([400, 'unknown_type'])
      expect((await program.call('POST', '/concurrency', { task_type: name, max_concurrency: 1 })).status).toBe(400)
    }
    expect((await ended('prototype', {})).result).toEqual(before.result)
  })

  it('are no valid names of fields, and the error says so', async () => {
    const refusal = async (payload: string) => {
      const { status, body } = await program.call('POST', '/tasks', `{"type":"echo","payload":${payload}}`)
      expect(status).toBe(400)
      return body.errors?.[0].path ?? body.detail
    }
    expect(await refusal('{"__proto__":1}')).toBe('payload.__proto__')
    expect(await refusal('{"a":[1,{"b":{"__proto__":null}}]}')).toBe('payload.a[1].b.__proto__')
    expect(await refusal('[{"constructor":{"prototype":1}}]')).toBe('payload[0].constructor.prototype')
    const name = 'x'.repeat(100_000)
    expect(await refusal(`{"${name}":{"__proto__":1}}`)).toBe(`payload.${name}`.slice(0, 500))
    expect(await refusal(`${'['.repeat(50_000)}{"__proto__":1}${']'.repeat(50_000)}`)).toContain('__proto__')
  })

  it('do not affect tags, where every name is allowed', async () => {
    const tags = { constructor: 'a', toString: 'b', hasOwnProperty: 'c' }
    const { body } = await program.call('POST', '/tasks', { type: 'remote', tags })
    expect((await program.call('GET', `/tasks/${body.id}`)).body.tags).toEqual(tags)
    const found = await program.call('GET', '/tasks?tag=constructor:a')
    expect(found.body.tasks.map(({ id }: { id: string }) => id)).toContain(body.id)
  })
})

describe('GET /api/v1/events', () => {
  // The one call that the fuzzer of answers leaves out, because its answer does not end.
  it.each([
    ['', 200],
    ['?type=echo&status=success', 200],
    ['?task_id=', 200],
    ['?status=done', 400],
    ['?type=echo&type=remote', 400],
    [`?type=${'x'.repeat(101)}`, 400],
    ['?more=1', 400],
    ['?access_token=x.y.z', 200],
  ])('%s is answered with %i', async (query, status) => {
    const stop = new AbortController()
    const headers = { Authorization: `Bearer ${program.token}` }
    const answer = await fetch(`${program.url}/api/v1/events${query}`, { headers, signal: stop.signal })
    const type = status === 200 ? 'text/event-stream' : 'application/problem+json'
    expect([answer.status, answer.headers.get('content-type')]).toEqual([status, expect.stringContaining(type)])
    stop.abort()
  })

  it.each(['1', '-1', '1e3', '0x1', 'a', ' ', '9'.repeat(400), '1.5', '__proto__'])(
    'accepts the position %j',
    async (id) => {
      const stop = new AbortController()
      const headers = { Authorization: `Bearer ${program.token}`, 'Last-Event-ID': id }
      const answer = await fetch(`${program.url}/api/v1/events`, { headers, signal: stop.signal })
      expect(answer.status).toBe(200)
      stop.abort()
    },
  )
})
