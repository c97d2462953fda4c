import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { openQueue } from '../../src/queue/open.ts'
import { redacted } from '../../src/queue/redacted-queue.ts'
import type { Json } from '../../src/task/json.ts'
import { redactionOf } from '../../src/task/redaction.ts'
import { withoutContents } from '../../src/tenants/without-contents.ts'
import { shown } from '../fixtures/handlers.ts'
import { Listener } from '../fixtures/mqtt-listener.ts'
import { type Server, startServer } from '../fixtures/server.ts'

it('refuses a filter by an error that is hidden, because it would confirm guesses', async () => {
  const queue = await openQueue('sqlite::memory:')
  const filter = { error: 'secret' }
  const refused = { code: 'invalid_request', message: expect.stringContaining('errors are hidden') }
  for (const shown of [redacted(queue, redactionOf(['error'])), withoutContents(queue)]) {
    await expect(shown.list({ ...filter, limit: 1 })).rejects.toMatchObject(refused)
    await expect(shown.cancel({ filter })).rejects.toMatchObject(refused)
    await expect(shown.retry({ filter })).rejects.toMatchObject(refused)
  }
  const others = redacted(queue, redactionOf(['payload', 'result', 'tags.card']))
  expect((await others.list({ ...filter, limit: 1 })).tasks).toEqual([])
  await queue.close()
})

it('refuses a filter by a hidden tag, because it would confirm guesses', async () => {
  const queue = await openQueue('sqlite::memory:')
  const shown = redacted(queue, redactionOf(['tags.card']))
  const filter = { tag: { key: 'card', value: '4711' } }
  const refused = { code: 'invalid_request', message: expect.stringContaining('"card" is hidden') }
  await expect(shown.list({ ...filter, limit: 1 })).rejects.toMatchObject(refused)
  await expect(shown.cancel({ filter })).rejects.toMatchObject(refused)
  await expect(shown.retry({ filter })).rejects.toMatchObject(refused)
  expect((await shown.list({ tag: { key: 'other', value: '4711' }, limit: 1 })).tasks).toEqual([])
  await queue.close()
})

describe('paths', () => {
  const hide = (paths: string, payload: Json) => redactionOf(paths.split(','))({ payload }).payload

  it.each<[string, Json, Json]>([
    ['payload', { a: 1 }, '[redacted]'],
    ['payload.a', { a: 1, b: 2 }, { a: '[redacted]', b: 2 }],
    ['payload.a.b', { a: { b: [1], c: 2 } }, { a: { b: '[redacted]', c: 2 } }],
    ['payload.card.*', { card: { n: 1, cvc: 2 } }, { card: { n: '[redacted]', cvc: '[redacted]' } }],
    ['payload.*.n', [{ n: 1 }, { m: 2 }, 3], [{ n: '[redacted]' }, { m: 2 }, 3]],
    ['payload.0', ['x', 'y'], ['[redacted]', 'y']],
    ['payload.a,payload.b', { a: 1, b: null }, { a: '[redacted]', b: '[redacted]' }],
    ['payload.a.b', { a: 'text' }, { a: 'text' }],
    ['payload.length', 'text', 'text'],
    ['result.a', { a: 1 }, { a: 1 }],
  ])('%s in %j', (path, before, after) => {
    const copy = structuredClone(before)
    expect(hide(path, before)).toEqual(after)
    expect(before).toEqual(copy)
  })

  it('hide fields of any name, and do not change prototypes', () => {
    const payload = JSON.parse('{"__proto__": {"a": 1}, "constructor": 2}')
    const shown = hide('payload.__proto__.a,payload.constructor', payload)
    expect(JSON.stringify(shown)).toBe('{"__proto__":{"a":"[redacted]"},"constructor":"[redacted]"}')
    expect(({} as Record<string, unknown>).a).toBeUndefined()
  })

  it('leave all other fields unchanged', () => {
    const redact = redactionOf(['payload.secret.*.deep'])
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        const task = { payload: value as Json }
        const leads = typeof value === 'object' && value !== null && 'secret' in value
        return leads || redact(task) === task
      }),
    )
  })
})

describe('of a process', () => {
  let guarded: Server
  let key: string
  let id: string
  const payload = { password: 'hunter2', card: { number: '4111', name: 'Ann' }, open: 'yes' }
  const hidden = { password: '[redacted]', card: { number: '[redacted]', name: '[redacted]' }, open: 'yes' }

  beforeAll(async () => {
    const redact = 'payload.password,payload.card.*, result.password, result.card.*'
    guarded = await startServer({ auth: 'keys', redact })
    key = await guarded.key(['admin'])
  })

  it('hides fields in answers and events; handlers and workers over HTTP receive everything', async () => {
    const listener = await Listener.connect(await guarded.mqttUrl(key), ['xqueue/#'], { username: 'k', password: key })
    const stop = new AbortController()
    const headers = { Authorization: `Bearer ${key}` }
    const events = await fetch(`${guarded.url}/api/v1/events`, { headers, signal: stop.signal })
    const submitted = (await guarded.as(key).call('POST', '/tasks', { type: 'show', payload })).body
    id = submitted.id
    expect(submitted.payload).toEqual(hidden)
    const success = `xqueue/events/show/success/${id}`
    await listener.until(() => expect(listener.on(success)[0]?.body.result).toEqual(hidden))
    expect(shown).toEqual([payload])
    let text = ''
    for await (const chunk of events.body!.pipeThrough(new TextDecoderStream() as never) as AsyncIterable<string>) {
      text += chunk
      if (text.includes('"success"')) break
    }
    stop.abort()
    const late = await Listener.connect(await guarded.mqttUrl(key), [`xqueue/tasks/${id}`], {
      username: 'k',
      password: key,
    })
    await late.until(() => expect(late.messages[0]?.body.result).toEqual(hidden))
    expect((await guarded.as(key).call('GET', `/tasks/${id}`)).body).toMatchObject({ payload: hidden, result: hidden })
    expect((await guarded.as(key).call('GET', '/tasks')).body.tasks[0].payload).toEqual(hidden)

    const waiting = (await guarded.as(key).call('POST', '/tasks', { type: 'quick', payload, delay: 3_600 })).body
    expect((await guarded.as(key).call('DELETE', `/tasks/${waiting.id}`)).body.payload).toEqual(hidden)
    expect((await guarded.as(key).call('POST', `/tasks/${waiting.id}/retry`)).body.payload).toEqual(hidden)
    await guarded.queue.configureType('elsewhere', { declared: true })
    await guarded.as(key).call('POST', '/tasks', { type: 'elsewhere', payload })
    const { leases } = (await guarded.as(key).call('POST', '/tasks/consume', { types: ['elsewhere'] })).body
    expect(leases[0].task.payload).toEqual(payload)

    const reported =
      text + JSON.stringify([...listener.messages, ...late.messages].map(({ body }) => body)) + guarded.log.join('')
    for (const secret of ['hunter2', '4111']) expect(reported).not.toContain(secret)
    await listener.close()
    await late.close()
  })
})
