import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { Handlers } from '../../src/worker/handler.ts'
import { announce, checkPayload, loadHandlers, normalizeHandlers } from '../../src/worker/handlers.ts'
import type { TaskSource } from '../../src/worker/task-source.ts'
import { temporaryFolder } from '../fixtures/folder.ts'

const run = () => null
const normalized = (fields: object, file: string | null = null) =>
  normalizeHandlers({ t: { run, ...fields } } as unknown as Handlers, file).get('t')!
const RETRY = { baseMs: 1_000, factor: 2, capMs: 300_000, jitter: 0.2 }
const NONE = {
  type: 't',
  maxConcurrency: null,
  groupConcurrency: null,
  groupTurns: 'tasks',
  rate: null,
  usesOf: null,
  limits: {},
  defaults: {},
  retry: RETRY,
  retention: {},
  payload: null,
  payloadSchemaJson: null,
  run,
}

describe('a handler', () => {
  it.each<[object, object]>([
    [{}, {}],
    [
      { concurrency: 1, groupConcurrency: 1, groupTurns: 'time' },
      { maxConcurrency: 1, groupConcurrency: 1, groupTurns: 'time' },
    ],
    [{ concurrency: null, groupConcurrency: null, rate: null, maxRetry: null, isolate: false }, {}],
    [{ maxRetry: 0 }, { defaults: { maxRetry: 0 } }],
    [{ maxRetry: 1_000, queueTimeout: 0 }, { defaults: { maxRetry: 1_000, queueTimeoutMs: 0 } }],
    [{ processTimeout: '1m' }, { defaults: { processTimeoutMs: 60_000 } }],
    [{ uses: { gpu: 2 } }, { defaults: { uses: { gpu: 2 } } }],
    [{ uses: {} }, {}],
    [{ rate: { max: 1, per: '1ms' } }, { rate: { max: 1, perMs: 1 } }],
    [{ rate: { max: 1_000_000, per: '24h' } }, { rate: { max: 1_000_000, perMs: 86_400_000 } }],
    [
      { limits: { gpu: { max: 2 } }, uses: { gpu: 2 } },
      { limits: { gpu: { max: 2, rate: null } }, defaults: { uses: { gpu: 2 } } },
    ],
    [
      { limits: { api: { rate: { max: 5, per: 1 } } } },
      { limits: { api: { max: null, rate: { max: 5, perMs: 1_000 } } } },
    ],
    [
      { retry: { base: 0, cap: '5s', factor: 1, jitter: 0 } },
      { retry: { baseMs: 0, capMs: 5_000, factor: 1, jitter: 0 } },
    ],
    [{ retry: { base: '1h' } }, { retry: { ...RETRY, baseMs: 3_600_000, capMs: 3_600_000 } }],
    [
      { retention: { success: 0, failed: '30d', canceled: undefined } },
      { retention: { success: 0, failed: 2_592_000_000 } },
    ],
  ])('with %j is complete', (fields, parts) => expect(normalized(fields)).toEqual({ ...NONE, ...parts }))

  it('may compute the uses of a task', () => {
    const uses = () => ({ gpu: 1 })
    expect(normalized({ uses })).toEqual({ ...NONE, usesOf: uses, defaults: { usesOfPayload: true } })
  })

  it.each<[object, string]>([
    [{ run: undefined }, 'has no function `run`'],
    [{ concurency: 1 }, 'has an unknown field `concurency`: allowed are concurrency, groupConcurrency,'],
    [{ concurrency: 0 }, 'has concurrency 0: it must be an integer of 1 or more, or null for no limit'],
    [{ concurrency: 1.5 }, 'has concurrency 1.5: it must be'],
    [{ groupConcurrency: 0 }, 'has groupConcurrency 0: it must be'],
    [{ groupTurns: 'turns' }, 'has groupTurns "turns": it must be "tasks" or "time"'],
    [{ maxRetry: -1 }, 'has maxRetry -1: it must be an integer from 0 to 1000'],
    [{ maxRetry: 1_001 }, 'has maxRetry 1001: it must be'],
    [{ maxRetry: 0.5 }, 'has maxRetry 0.5: it must be'],
    [{ payload: {} }, 'has a `payload` that is not a Standard Schema validator'],
    [{ payload: { '~standard': {} } }, 'has a `payload` that is not a Standard Schema validator'],
    [{ isolate: 1 }, 'has isolate 1: it must be true or false'],
    [{ isolate: true }, 'has `isolate`, which needs a handlers file: set it with --handlers'],
    [{ uses: { gpu: 3 }, limits: { gpu: { max: 2 } } }, 'uses 3 of "gpu", which has 2: no task could ever start'],
    [{ rate: 5 }, "has a rate that is not { max, per }: use `rate: { max: 100, per: '1m' }`, or null for none"],
    [{ rate: { max: 5 } }, 'has a rate that is not { max, per }'],
    [{ rate: { max: 5, per: 1, burst: 2 } }, 'has a rate that is not { max, per }'],
    [{ rate: { max: 0, per: 1 } }, 'has rate.max 0: it must be an integer from 1 to 1000000'],
    [{ rate: { max: 1.5, per: 1 } }, 'has rate.max 1.5: it must be'],
    [{ rate: { max: 1_000_001, per: 1 } }, 'has rate.max 1000001: it must be'],
    [{ rate: { max: 5, per: 0 } }, 'has rate.per 0: it must be 1 ms to 24 hours'],
    [{ rate: { max: 5, per: '24h1ms' } }, 'has rate.per 24h1ms: it must be 1 ms to 24 hours'],
    [{ rate: { max: 5, per: undefined } }, 'has rate.per undefined: it must be 1 ms to 24 hours'],
    [{ limits: { gpu: null } }, 'limits["gpu"], is not { max, rate }'],
    [{ limits: { gpu: { rate: { max: 0, per: 1 } } } }, 'limits["gpu"], has rate.max 0'],
    [{ limits: { gpu: { rate: { max: 1, per: 'soon' } } } }, 'limits.gpu.rate.per: "soon" is not a duration'],
    [{ retention: '1h' }, "has a retention that is no object: write `retention: { success: '1h', failed: '30d' }`"],
    [{ retention: ['1h'] }, 'has a retention that is no object'],
    [
      { retention: { done: '1h' } },
      'has retention.done: statuses that a task ends in are success, failed, canceled, timeout',
    ],
    [{ retention: { failed: 'soon' } }, 'retention.failed: "soon" is not a duration'],
    [{ retry: { base: 'soon' } }, 'retry.base: "soon" is not a duration'],
    [{ retry: { cap: 'soon' } }, 'retry.cap: "soon" is not a duration'],
    [{ queueTimeout: 'soon' }, 'queueTimeout: "soon" is not a duration'],
    [{ processTimeout: -1 }, 'processTimeout: -1 is negative'],
  ])('with %j is refused', (fields, message) => {
    const error = { code: 'invalid_handlers', message: expect.stringContaining(message) }
    expect(() => normalized(fields)).toThrow(expect.objectContaining(error))
    expect(() => normalized(fields)).toThrow(/the handler of "t"/)
  })

  it.each(['', 'a b', 'x'.repeat(101)])('of the type %j is refused', (type) => {
    const message = `the task type "${type}" is not valid: use at most 100 letters, digits and . _ : -`
    expect(() => normalizeHandlers({ [type]: { run } })).toThrow(message)
    expect(() => normalizeHandlers({ t: null } as never)).toThrow('the handler of "t" has no function `run`')
  })
})

describe('the validator of a payload', () => {
  const withSchema = (jsonSchema?: object, issues?: object[]) => {
    const validate = async () => (issues ? { issues } : { value: 1 })
    return normalized({ payload: { '~standard': { version: 1, vendor: 'test', validate, jsonSchema } } })
  }

  it('gives its JSON Schema, if it has one', () => {
    const fails = () => {
      throw new Error('no JSON form')
    }
    expect(withSchema({ input: (asked: object) => asked }).payloadSchemaJson).toEqual({ target: 'draft-2020-12' })
    expect(withSchema({ input: () => undefined }).payloadSchemaJson).toBeNull()
    expect(withSchema({ input: fails }).payloadSchemaJson).toBeNull()
    expect([withSchema({}).payloadSchemaJson, withSchema().payloadSchemaJson]).toEqual([null, null])
  })

  it('says what is wrong, and where', async () => {
    const issue = (...path: unknown[]) => ({ message: 'is wrong', path })
    const round: Record<string, unknown> = {}
    round.self = round
    const paths = [
      issue('a', 0),
      issue(),
      issue({ key: 'b' }),
      issue(Symbol()),
      issue(null),
      issue(undefined),
      issue(round),
    ]
    const found = await checkPayload(withSchema({}, [...paths, { message: 'is wrong' }]), 1)
    expect(found).toEqual(
      ['.a.0', '', '.b', '.symbol', '.null', '.undefined', '.object', ''].map((path) => ({
        path: `payload${path}`,
        message: 'is wrong',
      })),
    )
    expect(await checkPayload(withSchema({}), 1)).toEqual([])
    expect(await checkPayload(normalized({}), 1)).toEqual([])
    const long = await checkPayload(withSchema({}, [issue({ x: 'y'.repeat(99) })]), 1)
    expect(long[0]!.path).toHaveLength('payload.'.length + 80)
  })
})

it('announces the types of very many handlers in several steps', async () => {
  const handlers = normalizeHandlers(
    Object.fromEntries(Array.from({ length: 501 }, (_, at) => [`t${at}`, { run, concurrency: at + 1, maxRetry: 1 }])),
  )
  const steps: Parameters<TaskSource['declareHandlers']>[0][] = []
  await announce({ declareHandlers: async (told: never) => void steps.push(told) } as never, handlers)
  expect(steps.map(({ size }) => size)).toEqual([500, 1])
  expect([...steps.flatMap((told) => [...told.keys()])]).toEqual([...handlers.keys()])
  const { type: _, usesOf, payload, payloadSchemaJson, run: __, ...told } = handlers.get('t7')!
  expect(steps[0]!.get('t7')).toEqual({ ...told, payloadSchema: payloadSchemaJson })
})

describe('a file of handlers', () => {
  const folder = temporaryFolder()
  const written = (name: string, text: string) => {
    const path = join(folder, name)
    writeFileSync(path, text)
    return path
  }

  it('exports them by default or by name', async () => {
    expect(Object.keys(await loadHandlers(written('a.mjs', 'export default { a: {} }')))).toEqual(['a'])
    expect(Object.keys(await loadHandlers(written('b.mjs', 'export const handlers = { b: {} }')))).toEqual(['b'])
  })

  it.each([
    ['none.mjs', null, /none\.mjs does not exist$/],
    ['empty.mjs', '', /exports no handlers: write `export default defineHandlers/],
    ['null.mjs', 'export default null', /exports no handlers/],
    ['text.mjs', 'export default "text"', /exports no handlers/],
    ['throws.mjs', 'throw new Error("at once")', /cannot be loaded: Error: at once/],
    ['syntax.mjs', 'export default {', /cannot be loaded: /],
  ])('%s is refused', async (name, text, message) => {
    const path = text === null ? join(folder, name) : written(name, text)
    await expect(loadHandlers(path)).rejects.toMatchObject({
      code: 'invalid_handlers',
      message: expect.stringMatching(message),
    })
  })
})
