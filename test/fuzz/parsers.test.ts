import { CommanderError } from 'commander'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { isLocalName } from '../../src/access/exposure.ts'
import { isOwnOrigin, sessionOf } from '../../src/access/session-cookie.ts'
import { keysCommand } from '../../src/cli/keys.ts'
import { loadConfig } from '../../src/config/config.ts'
import { SETTINGS } from '../../src/config/settings.ts'
import { fits, Topics } from '../../src/notify/topics.ts'
import { openQueue } from '../../src/queue/open.ts'
import type { Queue } from '../../src/queue/queue.ts'
import { submissionsOf } from '../../src/store/kafka/submit/submission.ts'
import { idOfRef, placeOf } from '../../src/store/redis/records/ids.ts'
import { formatDuration, parseDurationMs } from '../../src/task/duration.ts'
import { XQueueError } from '../../src/task/errors.ts'
import type { Json } from '../../src/task/json.ts'
import { PayloadSchemas } from '../../src/task/payload-schemas.ts'
import { redactionOf } from '../../src/task/redaction.ts'
import { completeSpec, GROUP_PATTERN, TASK_LIMITS, TYPE_PATTERN } from '../../src/task/task.ts'
import { specOf } from '../../src/task/task-input.ts'
import { normalizeHandlers } from '../../src/worker/handlers.ts'
import { type RunningRedis, startRedis } from '../fixtures/redis.ts'
import { nearly, outcomeOf, RUNS, SEED, settledOf } from './random-input.ts'

let inputs = 0

/** Each text that is drawn is parsed, or refused with an error for its sender; `holds` checks the parsed value. */
function reads<T>(texts: fc.Arbitrary<string>, read: (text: string) => T, holds: (value: T, text: string) => boolean) {
  const property = fc.property(texts, (text) => {
    inputs++
    const outcome = outcomeOf(() => read(text))
    return 'refused' in outcome || holds(outcome.value, text)
  })
  fc.assert(property, { seed: SEED, numRuns: RUNS })
}

async function readsLater<T>(texts: fc.Arbitrary<string>, read: (text: string) => Promise<T>, runs = RUNS) {
  const property = fc.asyncProperty(texts, async (text) => {
    inputs++
    await settledOf(() => read(text))
  })
  await fc.assert(property, { seed: SEED, numRuns: runs })
}

let redis: RunningRedis
let engines: Queue[]
beforeAll(async () => {
  redis = await startRedis()
  engines = [await openQueue('sqlite::memory:'), await openQueue(redis.url)]
  for (const queue of engines) await queue.configureType('t', { declared: true })
  for (const queue of engines) await queue.submit(Array.from({ length: 9 }, () => completeSpec({ type: 't' })))
})
afterAll(async () => {
  for (const queue of engines) await queue.close()
  console.log(`${inputs} inputs of parsers, FUZZ_SEED=${SEED}`)
})

describe('with any input, the parser of', () => {
  it('durations returns whole milliseconds up to a year, which survive writing and reading', () => {
    const texts = nearly('1', '90', '0.5', 'ms', 's', 'm', 'h', 'd', '-', '+', '.', 'e5')
    reads(texts, parseDurationMs, (ms) => {
      const isInRange = Number.isInteger(ms) && ms >= 0 && ms <= TASK_LIMITS.durationMsMax
      return isInRange && parseDurationMs(formatDuration(ms)) === ms
    })
    for (const value of [Number.NaN, Infinity, -0, -1, 1e-320, 1e308, null, {}, [], true, 5n, Symbol('x'), () => 1]) {
      outcomeOf(() => parseDurationMs(value))
    }
  })

  it('topics and filters of MQTT stays within the prefix', () => {
    const topics = new Topics('xqueue')
    const filters = nearly('xqueue', '/', 'tasks', 'events', '+', '#', 'id', 'progress', '/+/', '$share/')
    reads(
      filters,
      (filter) => topics.taskIdOf(filter),
      (id, filter) => id === null || (topics.allows(filter) && filter === topics.task(id) && !/[/+#]/.test(id)),
    )
    reads(
      nearly('w', '/', '+', '#', '%2F', '%'),
      (id) => topics.worker(id),
      (topic) => topic.split('/').length === 3 && !/[+#\0]/.test(topic),
    )
    const both = fc.tuple(filters, filters).map(([filter, topic]) => `${filter}\n${topic}`)
    reads(
      both,
      (text) => fits(...(text.split('\n') as [string, string])),
      (fit) => typeof fit === 'boolean',
    )
  })

  it('names of types and groups accepts no control character', () => {
    reads(
      nearly('a', 'email', '.', '-', ':', '/', '*'),
      (text) => [TYPE_PATTERN.test(text), GROUP_PATTERN.test(text)],
      ([isType, isGroup], text) =>
        // biome-ignore lint/suspicious/noControlCharactersInRegex: it is what is looked for
        (!isType && !isGroup) || (!/[\u0000-\u001f\u007f-\u009f]/.test(text) && (!isType || !/[\s/+#{}]/.test(text))),
    )
  })

  it('paths for redaction hides the named fields and nothing else', () => {
    const shown = { payload: { a: { b: 1 }, list: [1, 2], ['__proto__']: 5 }, tags: { t: 'x' } }
    const before = JSON.stringify(shown)
    reads(
      nearly('payload', 'tags', '.', 'a', 'b', '*', 'list', '__proto__'),
      (path) => redactionOf([path])(shown),
      () => JSON.stringify(shown) === before && ({} as { b?: 1 }).b === undefined,
    )
  })

  it('headers of a request returns a session, an origin or a local name, or none', () => {
    const cookies = nearly('xqueue_session=', 'abc', ';', ' ', '=', '"', 'a=b')
    reads(cookies, sessionOf, (token) => token === null || /^[\w-]{1,100}$/.test(token))
    const hosts = nearly('localhost', '127.0.0.1', '.', ':80', '[::1]', 'evil.example', 'http://', '/')
    reads(hosts, isLocalName, (isLocal, text) => !isLocal || !/evil\.example(:\d+)?$/.test(text))
    reads(
      hosts,
      (text) => isOwnOrigin(text, 'localhost'),
      (isOwn, text) => !isOwn || URL.parse(text)!.host === 'localhost',
    )
  })

  it('ids of tasks accepts only ids that XQueue has made', () => {
    const id = idOfRef(3, '9.1700000000000-1000000001')
    const ids = fc.tuple(fc.integer({ min: 0, max: 35 }), nearly('0', 'f', '-', '8', '7')).map(([at, text]) => {
      return id.slice(0, at) + text + id.slice(at + text.length)
    })
    reads(ids, placeOf, (place, text) => place === null || idOfRef(place.partition, place.ref) === text)
  })

  it('records of Kafka, plain or as CloudEvents, returns a task or a reason', async () => {
    const json = fc.json({ maxDepth: 3 })
    const attributes = fc.dictionary(
      fc.constantFrom(
        'specversion',
        'id',
        'source',
        'type',
        'data',
        'delay',
        'priority',
        'runat',
        'group',
        'x',
        'time',
      ),
      fc.oneof(fc.constantFrom('1.0', 't', '5', 'x'), fc.jsonValue({ maxDepth: 2 })),
    )
    const headers = fc.array(
      fc.tuple(
        fc.constantFrom('ce_specversion', 'ce_id', 'ce_source', 'ce_type', 'ce_priority', 'content-type'),
        nearly('1.0', 't', '9', 'application/json', 'application/cloudevents+json', 'text/plain'),
      ),
      { maxLength: 6 },
    )
    const bodies = fc.oneof(
      json,
      attributes.map((event) => JSON.stringify(event)),
      nearly('{', '}', '"type":"t"', ',', '[', '"'),
    )
    const property = fc.asyncProperty(bodies, headers, async (body, pairs) => {
      inputs++
      const outcome = await settledOf(async () => {
        const [first] = submissionsOf({ key: null, value: Buffer.from(body), headers: pairs as never })
        const input = first!.input
        if (input instanceof XQueueError) throw input
        return specOf(input, null, '', [])
      })
      return 'refused' in outcome || typeof outcome.value.type === 'string'
    })
    await fc.assert(property, { seed: SEED, numRuns: RUNS })
  })

  it('schemas of payloads never causes an internal error', () => {
    const schemas = new PayloadSchemas()
    const word = fc.constantFrom('type', 'properties', '$ref', 'pattern', 'items', 'allOf', 'minimum', 'const', 'a')
    const value = fc.oneof(fc.constantFrom('object', '#', '(', 'string'), fc.jsonValue({ maxDepth: 2 }))
    const schema = fc.dictionary(word, fc.oneof(value, fc.dictionary(word, value)))
    const property = fc.property(schema, fc.jsonValue({ maxDepth: 2 }), (one, payload) => {
      inputs++
      return Array.isArray(schemas.check(one as Json, payload as Json))
    })
    fc.assert(property, { seed: SEED, numRuns: 1_000 })
  })

  it('settings returns a configuration or names the setting', async () => {
    const texts = nearly('embedded', 'off', 'keys', '1', '90s', '5m', 'mqtt://', 'a', ':', '/', 'true', ',', '@')
    const flags = fc.dictionary(fc.constantFrom(...SETTINGS.map(({ name }) => name)), texts, { maxKeys: 3 })
    const property = fc.asyncProperty(flags, async (drawn) => {
      inputs++
      await settledOf(() => loadConfig(drawn, {}, '/nowhere'))
    })
    await fc.assert(property, { seed: SEED, numRuns: RUNS })
  })

  it('rates, scopes and names of keys refuses invalid values', async () => {
    const words = nearly('100', '/', '1m', 'read', 'admin', ',', '24h', '0')
    const property = fc.asyncProperty(words, words, words, async (rate, scopes, expires) => {
      inputs++
      const asked = [`--rate=${rate}`, `--scopes=${scopes}`, `--expires=${expires}`, '--engine=sqlite::memory:']
      const error = await keysCommand()
        .parseAsync(['create', 'k', ...asked], { from: 'user' })
        .catch((thrown) => thrown)
      return error instanceof XQueueError || error instanceof CommanderError
    })
    await fc.assert(property, { seed: SEED, numRuns: 500 })
  })

  it('options of handlers refuses invalid values at the start', () => {
    const durations = nearly('5', 's', 'm', '-1')
    const said = fc.record(
      {
        processTimeout: fc.oneof(durations, fc.double()),
        queueTimeout: fc.oneof(durations, fc.double()),
        maxRetry: fc.double(),
        maxConcurrency: fc.double(),
        rate: fc.oneof(durations, fc.record({ max: fc.double(), per: durations })),
        retry: fc.dictionary(fc.constantFrom('base', 'factor', 'cap', 'jitter'), fc.oneof(durations, fc.double())),
      },
      { requiredKeys: [] },
    )
    const property = fc.property(nearly('email', '.', '/'), said, (type, options) => {
      inputs++
      const outcome = outcomeOf(() => normalizeHandlers({ [type]: { ...options, run: () => null } as never }))
      return (
        'refused' in outcome ||
        (outcome.value.size <= 1 && [...outcome.value.keys()].every((t) => TYPE_PATTERN.test(t)))
      )
    })
    fc.assert(property, { seed: SEED, numRuns: RUNS })
  })

  it('cursors, positions, ids and leases on each store returns a value or nothing', { timeout: 120_000 }, async () => {
    for (const queue of engines) {
      const { nextCursor } = await queue.list({ limit: 2 })
      const own = Buffer.from(nextCursor!, 'base64url').toString()
      const inside = nearly(own, own.slice(0, 4), own.slice(3), '[', ']', '{', '}', ',', '"', '0', '1', ':')
      const cursors = fc.oneof(
        nearly(nextCursor!, 'A', '-', '_', '='),
        inside.map((text) => Buffer.from(text).toString('base64url')),
      )
      for (const status of ['pending', undefined] as const) {
        const more = status ? { status } : {}
        await readsLater(cursors, (cursor) => queue.list({ limit: 2, cursor, ...more }), 1_000)
      }
      const { last } = await queue.events({ after: null, max: 1 })
      await readsLater(nearly(last, '1', '0', ',', ':', '-', '.'), (after) => queue.events({ after, max: 2 }), 1_000)
      const { id } = (await queue.list({ limit: 1 })).tasks[0]!
      const names = nearly(id, '-', ':', '#1', '0', '{', '}')
      const worker = { id: 'w', host: 'h', pid: 1, types: [], concurrency: 1, startedAt: 0 }
      await readsLater(
        names,
        async (name) => {
          await Promise.all([queue.get([name]), queue.explain(name)])
          const outcomes = [{ lease: name, outcome: { kind: 'success', result: null } as const }]
          const { settled } = await queue.turn({ worker, want: 0, outcomes, renewals: [{ lease: name }] })
          expect(settled[0]!.accepted).toBe(false)
        },
        500,
      )
      expect((await queue.stats()).counts.pending).toBe(9)
    }
  })
})
