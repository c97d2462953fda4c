import { sameRequest, TASK_LIMITS, type TaskSpec } from '../../../task/task.ts'
import { NO_USES, type Uses } from '../../../task/uses.ts'
import type { StoreOptions } from '../../store.ts'
import type { Numbers } from '../records/ids.ts'
import { NO_EXTRAS } from '../records/keys.ts'
import { extrasOf, hasExtras, headOf, unitsOf } from '../records/rows.ts'

/** The arguments and the answer of submit.lua. */

/** Tasks that are accepted together. */
export interface Call {
  specs: readonly TaskSpec[]
  /** For each task its predecessors, as arguments of submit.lua. */
  after: readonly (readonly string[])[]
  /** By index, the text of a request if it differs from the text of its spec. */
  requests?: ReadonlyMap<number, string>
}

/** Lane numbers of the shapes, and the answer to each call. */
export type SubmitReply = 'incomplete' | [lanes: string[], answers: Reply[]]

/** The id of the first entry of a call, alone or with earlier tasks; or a refusal. Positions count from 1. */
type Reply =
  | string
  | ['some', first: string, ...existing: [position: number, ref: string][]]
  | ['unknown', ...types: string[]]
  | ['lost']
  | ['conflict', ...conflicts: [position: number, ref: string, request: string][]]
  | ['limits', settings: string[], ...positions: [position: number][]]
  | ['full', waiting: number]
  | ['no_predecessor', ...missing: [position: number, place: number][]]
  | ['crowd', name: string]
  | ['unstorable', position: number]

export type Answer =
  | { kind: 'accepted'; first: string; existing: readonly { index: number; ref: string }[] }
  | { kind: 'unknown'; types: string[] }
  | { kind: 'lost' }
  /** Ref and request of the earlier task, '' for one of the same call. */
  | { kind: 'conflict'; conflicts: { index: number; ref: string; request: string }[] }
  /** Tasks that cannot use their limits, and the settings of these limits by name, '' for one that does not exist. */
  | { kind: 'limits'; settings: ReadonlyMap<string, string>; indexes: number[] }
  | { kind: 'full'; waiting: number }
  /** A task, and a position in its `after`. */
  | { kind: 'no_predecessor'; missing: { index: number; place: number }[] }
  | { kind: 'crowd'; name: string }
  | { kind: 'unstorable'; index: number }
export type Refusal = Exclude<Answer, { kind: 'accepted' }>

const NONE: readonly never[] = []

export function readReply(reply: Reply): Answer {
  if (typeof reply === 'string') return { kind: 'accepted', first: reply, existing: NONE }
  switch (reply[0]) {
    case 'some': {
      const [, first, ...existing] = reply
      return { kind: 'accepted', first, existing: existing.map(([position, ref]) => ({ index: position - 1, ref })) }
    }
    case 'unknown': {
      const [kind, ...types] = reply
      return { kind, types }
    }
    case 'lost':
      return { kind: 'lost' }
    case 'conflict': {
      const [kind, ...conflicts] = reply
      return { kind, conflicts: conflicts.map(([position, ref, request]) => ({ index: position - 1, ref, request })) }
    }
    case 'limits': {
      const [kind, texts, ...positions] = reply
      const settings = new Map(texts.flatMap((name, at) => (at % 2 === 0 ? [[name, texts[at + 1]!] as const] : [])))
      return { kind, settings, indexes: positions.map(([position]) => position - 1) }
    }
    case 'full': {
      const [kind, waiting] = reply
      return { kind, waiting }
    }
    case 'no_predecessor': {
      const [kind, ...missing] = reply
      return { kind, missing: missing.map(([position, place]) => ({ index: position - 1, place: place - 1 })) }
    }
    case 'crowd': {
      const [kind, name] = reply
      return { kind, name }
    }
    case 'unstorable': {
      const [kind, position] = reply
      return { kind, index: position - 1 }
    }
  }
}

/** A predecessor as an argument of submit.lua: one of the same call, from 0, or one of another partition. */
export const PREDECESSOR = {
  ofCall: (place: number) => `#${place + 1}`,
  /** Reads the place of one of the same call; null for another. */
  placeOf: (name: string) => (name.startsWith('#') ? Number(name.slice(1)) - 1 : null),
  /** Checked in another partition, where it is accepted first. */
  elsewhere: '',
  missing: '?',
} as const

/** The arguments of submit.lua for some calls. */
export function submissionOf(
  mode: '' | 'check' | 'tick',
  calls: readonly Call[],
  numbers: Numbers,
  { typeTtlMs, pendingMax, isState, retention }: StoreOptions,
  wasMet: '1' | '',
) {
  const shapes = new Shapes()
  const tasks: (string | number)[] = []
  let count = 0
  const run = { shape: 0, countAt: 0 }
  for (const { specs, after, requests } of calls) {
    count += specs.length
    const shape = specs.length === 1 ? shapes.plain(specs[0]!) : null
    if (shape === null) {
      run.shape = 0
      tasks.push(specs.length)
      specs.forEach((spec, index) => {
        writeTask(tasks, shapes, spec, after[index]!, requests?.get(index))
      })
    } else {
      if (run.shape !== shape) Object.assign(run, { shape, countAt: tasks.push(-shape, 0) - 1 })
      tasks[run.countAt] = Number(tasks[run.countAt]) + 1
      tasks.push(JSON.stringify(specs[0]!.payload))
    }
  }
  const limits = [typeTtlMs, pendingMax ?? '', retention.ageMs, TASK_LIMITS.successorsMax]
  const head = [wasMet, isState ? '1' : '', mode, numbers.take(count), ...limits, shapes.count]
  const args = [...head, ...shapes.args, calls.length]
  for (const arg of tasks) args.push(arg)
  return { args, shapes }
}

/** The extras and the units of tasks that have nothing else but the limits that they use. Uses are never changed. */
const partsByUses = new WeakMap<Uses, readonly [extras: string, units: string]>()

/** Null for a task that has something else, or uses no limits. */
function limitedPartsOf(spec: TaskSpec): readonly [extras: string, units: string] | null {
  const { uses, tags, idempotencyKey, batch, group, after, runAt, delayMs, onFailure } = spec
  if (uses === NO_USES || idempotencyKey !== null || batch !== null || after.length > 0) return null
  if (runAt !== null || delayMs > 0 || group !== null || onFailure !== 'cancel') return null
  if (Object.keys(tags).length > 0) return null
  let parts = partsByUses.get(uses)
  if (parts === undefined) {
    parts = [extrasOf(spec), unitsOf(uses)]
    partsByUses.set(uses, parts)
  }
  return parts[1] === '' ? null : parts
}

/** The common fields of the tasks of a trip, sent once. */
class Shapes {
  readonly args: string[] = []
  readonly #shapes: string[] = []
  readonly #numbers = new Map<string, number>()

  get count(): number {
    return this.#shapes.length
  }

  /** The number of a task that has nothing else but its shape and its payload; null for another. */
  plain(spec: TaskSpec): number | null {
    if (spec.runAt !== null || spec.delayMs !== 0) return null
    const parts = limitedPartsOf(spec)
    return parts === null && hasExtras(spec) ? null : this.numberOf(spec, parts)
  }

  /** @param parts the extras and units that all tasks of the shape have, or null */
  numberOf(spec: TaskSpec, parts: readonly [extras: string, units: string] | null): number {
    const shape = shapeOf(spec)
    const key = parts === null ? shape : `${shape}\n${parts[0]}${parts[1]}`
    const known = this.#numbers.get(key)
    if (known !== undefined) return known
    this.args.push(spec.type, String(spec.priority), headOf(spec), ...(parts ?? ['', '']))
    this.#shapes.push(shape)
    this.#numbers.set(key, this.count)
    return this.count
  }

  lanes(numbers: readonly string[]): Map<string, number> {
    const lanes = new Map<string, number>()
    for (const [index, number] of numbers.entries()) {
      if (number !== '') lanes.set(this.#shapes[index]!, Number(number))
    }
    return lanes
  }
}

function writeTask(
  args: (string | number)[],
  shapes: Shapes,
  spec: TaskSpec,
  after: readonly string[],
  stored: string | undefined,
): void {
  const payload = JSON.stringify(spec.payload)
  const plain = shapes.plain(spec)
  if (plain !== null) {
    args.push(plain, payload)
    return
  }
  const shape = shapes.numberOf(spec, null)
  const extras = extrasOf(spec) || NO_EXTRAS
  const key = spec.idempotencyKey ?? ''
  const request = stored ?? (key === '' ? '' : sameRequest(spec))
  args.push(-shape, payload, extras, delayOf(spec), spec.runAt ?? '', key, request, unitsOf(spec.uses))
  args.push(after.length, ...after)
}

/** The shape that was written last: most tasks of a trip have the same one. */
let last = { type: '', priority: 0, queueTimeoutMs: 0, processTimeoutMs: 0, maxRetry: 0, text: '' }

/** Tasks of the same shape go to the same lane with the same head. */
export function shapeOf({ type, priority, queueTimeoutMs, processTimeoutMs, maxRetry }: TaskSpec): string {
  const isLast = type === last.type && priority === last.priority && maxRetry === last.maxRetry
  if (isLast && queueTimeoutMs === last.queueTimeoutMs && processTimeoutMs === last.processTimeoutMs) return last.text
  const fields = { type, priority, queueTimeoutMs, processTimeoutMs, maxRetry }
  last = { ...fields, text: `${type} ${priority} ${headOf(fields)}` }
  return last.text
}

function delayOf({ delayMs }: TaskSpec): string {
  return delayMs === 0 ? '' : String(delayMs)
}
