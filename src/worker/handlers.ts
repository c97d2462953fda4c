import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { StandardSchemaV1 } from '@standard-schema/spec'
import {
  GROUP_TURNS,
  type GroupTurns,
  type LimitSettings,
  RATE_LIMITS,
  type Rate,
  refuseLimitChange,
} from '../queue/queue.ts'
import { parseDurationMs } from '../task/duration.ts'
import { type FieldError, XQueueError } from '../task/errors.ts'
import type { Json } from '../task/json.ts'
import type { Retention } from '../task/retention.ts'
import { completeRetryPolicy, type RetryPolicy } from '../task/retry.ts'
import { FINAL_STATUSES, type FinalStatus } from '../task/status.ts'
import { type SpecDefaults, TASK_LIMITS, TYPE_PATTERN } from '../task/task.ts'
import { describeError } from '../task/thrown.ts'
import { type Uses, unitsAboveMax, usesErrors } from '../task/uses.ts'
import type { Duration, Handler, Handlers } from './handler.ts'
import { runInThread } from './isolate.ts'
import type { TaskSource } from './task-source.ts'

/** The allowed fields of a handler, because a misspelled one would have no effect. */
const FIELDS: Record<keyof Handler, true> = {
  concurrency: true,
  groupConcurrency: true,
  groupTurns: true,
  rate: true,
  uses: true,
  limits: true,
  processTimeout: true,
  queueTimeout: true,
  maxRetry: true,
  retry: true,
  retention: true,
  payload: true,
  isolate: true,
  run: true,
}

/** A checked handler with defaults. */
export interface RegisteredHandler {
  type: string
  maxConcurrency: number | null
  groupConcurrency: number | null
  groupTurns: GroupTurns
  rate: Rate | null
  /** Defaults of tasks without these fields. */
  defaults: SpecDefaults
  /** The units of named limits that a task uses, if its payload decides. */
  usesOf: ((payload: Json) => unknown) | null
  limits: Readonly<Record<string, LimitSettings>>
  retry: RetryPolicy
  retention: Retention
  payload: StandardSchemaV1 | null
  /** JSON Schema of the payload, if the validator provides it. */
  payloadSchemaJson: Json
  run: Handler<Json>['run']
}

/**
 * @param file the module of the handlers; required for `isolate`
 * @throws XQueueError `invalid_handlers` with the type, the field and the allowed values
 */
export function normalizeHandlers(handlers: Handlers, file: string | null = null): Map<string, RegisteredHandler> {
  return new Map(Object.entries(handlers).map(([type, handler]) => [type, normalize(type, handler, file)]))
}

/**
 * Imports a module whose default export, or export `handlers`, is a map of handlers.
 * @throws XQueueError `invalid_handlers`
 */
export async function loadHandlers(path: string): Promise<Handlers> {
  const file = resolve(path)
  if (!existsSync(file)) throw invalid(`the handlers file ${path} does not exist`)
  let module: { default?: unknown; handlers?: unknown }
  try {
    module = await import(pathToFileURL(file).href)
  } catch (error) {
    if (isModuleSyntax(error)) throw invalid(`the handlers file ${path} ${AS_COMMONJS}`)
    throw invalid(`the handlers file ${path} cannot be loaded: ${describeError(error)}`)
  }
  const handlers = module.default ?? module.handlers
  if (typeof handlers !== 'object' || handlers === null) {
    throw invalid(`${path} exports no handlers: write \`export default defineHandlers({ … })\``)
  }
  return handlers as Handlers
}

const AS_COMMONJS =
  'uses import or export, which Node reads as CommonJS because of "type": "commonjs" in package.json: ' +
  'run `npm pkg set type=module`, or give the file the ending .mts or .mjs'

/** `npm init` writes that type. Node's own message shows the places of its loader instead of a remedy. */
function isModuleSyntax(error: unknown): boolean {
  return error instanceof SyntaxError && /^(Cannot use import statement|Unexpected token 'export')/.test(error.message)
}

/** Types per step, which takes some milliseconds. */
const ANNOUNCED_AT_ONCE = 500

/** Registers the types of handlers with the store. */
export async function announce(queue: TaskSource, handlers: ReadonlyMap<string, RegisteredHandler>): Promise<void> {
  const told = [...handlers].map(([type, { payloadSchemaJson: payloadSchema, ...handler }]) => {
    const { maxConcurrency, groupConcurrency, groupTurns, rate, limits, retry, retention, defaults } = handler
    return [
      type,
      { maxConcurrency, groupConcurrency, groupTurns, rate, limits, retry, retention, payloadSchema, defaults },
    ] as const
  })
  for (let from = 0; from < told.length; from += ANNOUNCED_AT_ONCE) {
    await queue.declareHandlers(new Map(told.slice(from, from + ANNOUNCED_AT_ONCE)))
  }
}

/** The errors of a payload for its handler. */
export async function checkPayload(handler: RegisteredHandler, payload: Json): Promise<FieldError[]> {
  if (!handler.payload) return []
  const { issues } = await handler.payload['~standard'].validate(payload)
  return (issues ?? []).map(({ message, path = [] }) => ({
    path: ['payload', ...path.map(keyOf)].join('.'),
    message,
  }))
}

/** One step of an issue's path. A validator may use any value, such as an object key of a Map. */
function keyOf(part: unknown): string {
  const key: unknown = typeof part === 'object' && part !== null && 'key' in part ? part.key : part
  if (typeof key === 'string' || typeof key === 'number') return String(key)
  if (typeof key === 'symbol') return key.description ?? 'symbol'
  return key === null || key === undefined ? String(key) : (safeJson(key) ?? typeof key)
}

function safeJson(value: unknown): string | undefined {
  try {
    return JSON.stringify(value)?.slice(0, 80)
  } catch {
    return undefined
  }
}

function normalize(type: string, handler: Handlers[string], file: string | null): RegisteredHandler {
  const where = `the handler of "${type}"`
  if (!TYPE_PATTERN.test(type)) {
    throw invalid(`the task type "${type}" is not valid: use at most 100 letters, digits and . _ : -`)
  }
  if (typeof handler?.run !== 'function') throw invalid(`${where} has no function \`run\``)
  const known = Object.keys(FIELDS)
  const stranger = Object.keys(handler).find((key) => !known.includes(key))
  if (stranger) throw invalid(`${where} has an unknown field \`${stranger}\`: allowed are ${known.join(', ')}`)
  const { concurrency = null, groupConcurrency = null, groupTurns = 'tasks', maxRetry = null, retry = {} } = handler
  const { payload = null, isolate = false } = handler
  for (const [field, limit] of Object.entries({ concurrency, groupConcurrency })) {
    if (limit === null || (Number.isInteger(limit) && limit >= 1)) continue
    throw invalid(`${where} has ${field} ${limit}: it must be an integer of 1 or more, or null for no limit`)
  }
  if (!GROUP_TURNS.includes(groupTurns)) {
    throw invalid(`${where} has groupTurns ${JSON.stringify(groupTurns)}: it must be "tasks" or "time"`)
  }
  if (maxRetry !== null && !(Number.isInteger(maxRetry) && maxRetry >= 0 && maxRetry <= TASK_LIMITS.retryMax)) {
    throw invalid(`${where} has maxRetry ${maxRetry}: it must be an integer from 0 to ${TASK_LIMITS.retryMax}`)
  }
  if (payload !== null && typeof payload['~standard']?.validate !== 'function') {
    throw invalid(`${where} has a \`payload\` that is not a Standard Schema validator`)
  }
  if (typeof isolate !== 'boolean') throw invalid(`${where} has isolate ${isolate}: it must be true or false`)
  if (isolate && file === null) {
    throw invalid(`${where} has \`isolate\`, which needs a handlers file: set it with --handlers`)
  }
  const ms = (field: string, value: Duration | undefined) => {
    try {
      return value === undefined ? null : parseDurationMs(value)
    } catch (error) {
      throw invalid(`${where}, ${field}: ${(error as Error).message}`)
    }
  }
  const processTimeoutMs = ms('processTimeout', handler.processTimeout)
  const queueTimeoutMs = ms('queueTimeout', handler.queueTimeout)
  const base = ms('retry.base', retry.base)
  const cap = ms('retry.cap', retry.cap)
  const { factor, jitter } = retry
  const { uses = {} } = handler
  const limits = handler.limits ?? {}
  if (typeof uses !== 'function') refuseNeverStarting(where, uses, limits)
  return {
    type,
    maxConcurrency: concurrency,
    groupConcurrency,
    groupTurns,
    rate: rateOf(where, handler.rate ?? null, (per) => ms('rate.per', per)),
    usesOf: typeof uses === 'function' ? uses : null,
    limits: limitsOf(where, limits, ms),
    defaults: {
      ...(maxRetry === null ? {} : { maxRetry }),
      ...(queueTimeoutMs === null ? {} : { queueTimeoutMs }),
      ...(processTimeoutMs === null ? {} : { processTimeoutMs }),
      ...(typeof uses === 'function' ? { usesOfPayload: true as const } : usesOf(where, uses)),
    },
    retry: completeRetryPolicy({
      ...(base === null ? {} : { baseMs: base }),
      ...(cap === null ? {} : { capMs: cap }),
      ...(factor === undefined ? {} : { factor }),
      ...(jitter === undefined ? {} : { jitter }),
    }),
    retention: retentionOf(where, handler.retention ?? {}, ms),
    payload,
    payloadSchemaJson: payload === null ? null : jsonSchemaOf(payload),
    run: isolate ? runInThread(file!, type) : handler.run,
  }
}

function usesOf(where: string, uses: object): { uses?: Uses } {
  const [wrong] = usesErrors(uses, 'uses')
  if (wrong) throw invalid(`${where} has ${wrong.path}, which ${wrong.message}`)
  return Object.keys(uses).length === 0 ? {} : { uses: { ...(uses as Uses) } }
}

function refuseNeverStarting(where: string, uses: Uses, limits: NonNullable<Handler['limits']>): void {
  const above = unitsAboveMax(uses ?? {}, limits)
  if (!above) return
  const { name, units, max } = above
  throw invalid(`${where} uses ${units} of ${JSON.stringify(name)}, which has ${max}: no task could ever start`)
}

function limitsOf(
  where: string,
  limits: object,
  ms: (field: string, value: Duration | undefined) => number | null,
): Record<string, LimitSettings> {
  return Object.fromEntries(
    Object.entries(limits).map(([name, limit]) => {
      const at = `${where}, limits[${JSON.stringify(name)}],`
      const stranger = Object.keys(limit ?? {}).find((field) => field !== 'max' && field !== 'rate')
      if (typeof limit !== 'object' || limit === null || stranger) {
        throw invalid(`${at} is not { max, rate }: use \`{ max: 10, rate: { max: 100, per: '1m' } }\``)
      }
      const { max = null, rate = null } = limit
      const handler = { max, rate: rateOf(at, rate, (per) => ms(`limits.${name}.rate.per`, per)) }
      try {
        refuseLimitChange(name, { handler })
      } catch (error) {
        throw invalid(`${at} ${(error as Error).message}`)
      }
      return [name, handler]
    }),
  )
}

function rateOf(where: string, rate: unknown, ms: (per: Duration | undefined) => number | null): Rate | null {
  if (rate === null) return null
  if (Object.keys(Object(rate)).sort().join() !== 'max,per') {
    throw invalid(
      `${where} has a rate that is not { max, per }: use \`rate: { max: 100, per: '1m' }\`, or null for none`,
    )
  }
  const { max, per } = rate as { max: number; per: Duration }
  if (!(Number.isInteger(max) && max >= 1 && max <= RATE_LIMITS.max)) {
    throw invalid(`${where} has rate.max ${max}: it must be an integer from 1 to ${RATE_LIMITS.max}`)
  }
  const perMs = ms(per) ?? 0
  if (perMs < 1 || perMs > RATE_LIMITS.perMs) throw invalid(`${where} has rate.per ${per}: it must be 1 ms to 24 hours`)
  return { max, perMs }
}

function retentionOf(
  where: string,
  given: unknown,
  ms: (field: string, value: Duration | undefined) => number | null,
): Retention {
  if (typeof given !== 'object' || given === null || Array.isArray(given)) {
    throw invalid(`${where} has a retention that is no object: write \`retention: { success: '1h', failed: '30d' }\``)
  }
  const retention: Retention = {}
  for (const [status, value] of Object.entries(given)) {
    if (!FINAL_STATUSES.includes(status as FinalStatus)) {
      throw invalid(`${where} has retention.${status}: statuses that a task ends in are ${FINAL_STATUSES.join(', ')}`)
    }
    const keptMs = ms(`retention.${status}`, value)
    if (keptMs !== null) retention[status as FinalStatus] = keptMs
  }
  return retention
}

/** Uses the Standard JSON Schema extension, which not every validator has. */
function jsonSchemaOf(schema: StandardSchemaV1): Json {
  const { jsonSchema } = schema['~standard'] as { jsonSchema?: { input?: (options: { target: string }) => unknown } }
  try {
    return (jsonSchema?.input?.({ target: 'draft-2020-12' }) as Json | undefined) ?? null
  } catch {
    return null // Some schemas (transforms, custom checks) have no JSON form; the validator itself still checks.
  }
}

function invalid(message: string): XQueueError {
  return new XQueueError('invalid_handlers', message)
}
