import type { XQueueError } from '../../../task/errors.ts'
import { acceptedTask, isSameRequest, sameRequest, TASK_LIMITS, type TaskSpec } from '../../../task/task.ts'
import { Batcher } from '../../batcher.ts'
import {
  keyConflict,
  lostTypes,
  queueFull,
  tooManySuccessors,
  unknownPredecessors,
  unknownTypes,
  unstorable,
} from '../../refusals.ts'
import { incomplete } from '../../state.ts'
import type { StoreOptions, Submitted } from '../../store.ts'
import type { Database } from '../client/database.ts'
import { idOf, idOfName, idOfRef, type Numbers } from '../records/ids.ts'
import { NO_EXTRAS } from '../records/keys.ts'
import { extrasOf, headOf } from '../records/rows.ts'

/** Approximate number of tasks of several calls in one trip; a larger call has its own trip. */
const TASKS_MAX = 1_000
/** A call weighs as much as this many tasks: few calls fill a trip, so that another trip is under way beside it. */
const CALL_WEIGHT = 20
const TRIPS_MAX = 2

/** The answer of submit.lua to a call: its first entry id, alone or with the tasks that were accepted before. */
type Reply =
  | string
  | ['some', first: string, ...existing: (string | number)[]]
  | ['unknown', ...types: string[]]
  | ['lost']
  | Conflicts
  | ['full', waiting: number]
  | ['no_predecessor', ...places: number[]]
  | ['crowd', name: string]
  | ['unstorable', index: number]

/** Index from 1, ref of the earlier task and its request for each; ref and request '' for one of the same call. */
type Conflicts = ['conflict', ...(string | number)[]]

interface Answer {
  reply: Reply
  /** Number of the lane of each shape of the trip. */
  lanes: ReadonlyMap<string, number>
}

/** The store's answer about new tasks, and about earlier ones of known keys. */
export interface Accepted {
  submitted: (Submitted | null)[]
  /** By index, ids of tasks that were accepted before. */
  earlier: Map<number, string>
}

/**
 * Submissions to one partition; those that arrive together share a trip, each of them accepted in full or not at all.
 */
export class Submissions {
  readonly #database: Database
  readonly #partition: number
  readonly #options: StoreOptions
  readonly #numbers: Numbers
  readonly #batchers: Batcher<Call, Answer>
  readonly #registered: () => Promise<string[]>

  /** @param registered returns the known types, for a refusal */
  constructor(
    database: Database,
    partition: number,
    options: StoreOptions,
    numbers: Numbers,
    registered: () => Promise<string[]>,
  ) {
    this.#database = database
    this.#partition = partition
    this.#options = options
    this.#numbers = numbers
    this.#registered = registered
    this.#batchers = new Batcher((calls) => this.#send(calls), {
      weightOf: ({ specs }) => Math.max(specs.length, CALL_WEIGHT),
      weightMax: TASKS_MAX,
      underWayMax: TRIPS_MAX,
    })
  }

  async add(call: Call): Promise<Accepted> {
    const { specs } = call
    const { reply, lanes } = await this.#ask(call, (asked) => this.#batchers.add(asked))
    if (typeof reply === 'string') return this.#accepted(call, lanes, reply, [])
    if (reply[0] !== 'some') throw await this.#refusal(specs, reply)
    const [, first, ...existing] = reply
    return this.#accepted(call, lanes, first, existing)
  }

  /**
   * Whether a part of a batch would be accepted: returns its unknown types.
   * @param indexes the positions of the tasks in the batch
   * @throws XQueueError the other errors of `add`
   */
  async check(call: Call, indexes: readonly number[]): Promise<string[]> {
    const { reply } = await this.#ask(call, async (asked) => (await this.#send([asked], 'look'))[0]!)
    if (typeof reply === 'string' || reply[0] === 'some') return []
    if (reply[0] === 'unknown') return reply.slice(1) as string[]
    throw await this.#refusal(call.specs, reply, indexes)
  }

  /**
   * The step compares requests as texts. If those differ although the request is the same (an earlier version also
   * wrote the defaults), it is called once more with the texts that the store has.
   */
  async #ask(call: Call, send: (call: Call) => Promise<Answer>): Promise<Answer> {
    const answer = await send(call)
    const { reply } = answer
    if (typeof reply === 'string' || reply[0] !== 'conflict') return answer
    const requests = new Map<number, string>()
    for (let at = 1; at < reply.length; at += 3) {
      const [index, request] = [Number(reply[at]) - 1, String(reply[at + 2])]
      if (request === '' || !isSameRequest(request, call.specs[index]!)) {
        return { ...answer, reply: ['conflict', reply[at]!, reply[at + 1]!, request] }
      }
      requests.set(index, request)
    }
    return send({ ...call, requests })
  }

  /** @param indexes positions of the specs in the caller's batch, if they are only some of it */
  async #refusal(
    specs: readonly TaskSpec[],
    answer: Exclude<Reply, string | ['some', ...unknown[]]>,
    indexes?: readonly number[],
  ): Promise<XQueueError> {
    switch (answer[0]) {
      case 'unknown':
        return unknownTypes(specs, new Set(answer.slice(1) as string[]), await this.#registered())
      case 'lost':
        return lostTypes(specs)
      case 'conflict': {
        const [place, ref] = [Number(answer[1]), String(answer[2])]
        const taskId = ref === '' ? null : idOfRef(this.#partition, ref)
        return keyConflict(specs[place - 1]!.idempotencyKey!, indexes?.[place - 1] ?? place - 1, taskId)
      }
      case 'full':
        return queueFull(answer[1], this.#options.pendingMax!, specs.length)
      case 'crowd':
        return tooManySuccessors(idOfName(answer[1]))
      case 'unstorable':
        return unstorable(indexes?.[answer[1] - 1] ?? answer[1] - 1)
      case 'no_predecessor':
        return unknownPredecessors(missingOf(specs, answer.slice(1) as number[], indexes))
    }
  }

  async #send(calls: readonly Call[], mode: '' | 'look' = ''): Promise<Answer[]> {
    const { args, shapes } = submissionOf(
      mode,
      calls,
      this.#numbers,
      this.#options,
      this.#database.wasMet(this.#partition),
    )
    const answer = await this.#database.run<'incomplete' | [string[], Reply[]]>('submit', this.#partition, args)
    if (answer === 'incomplete') throw incomplete()
    const [numbers, answers] = answer
    const lanes = shapes.lanes(numbers)
    return answers.map((reply) => ({ reply, lanes }))
  }

  #accepted(
    { specs, after }: Call,
    lanes: ReadonlyMap<string, number>,
    first: string,
    existing: readonly (string | number)[],
  ): Accepted {
    const earlier = new Map<number, string>()
    for (let index = 0; index < existing.length; index += 2) {
      earlier.set(Number(existing[index]) - 1, idOfRef(this.#partition, String(existing[index + 1])))
    }
    const dash = first.indexOf('-')
    const ms = Number(first.slice(0, dash))
    let n = Number(first.slice(dash + 1))
    const ids: string[] = []
    for (const [index, id] of earlier) ids[index] = id
    const submitted = specs.map((spec, index) => {
      if (earlier.has(index)) return null
      ids[index] = idOf(this.#partition, lanes.get(shapeOf(spec))!, ms, n)
      n += 1
      const waitsFor = after[index]!.map((name) => (name[0] === '#' ? ids[Number(name.slice(1)) - 1]! : idOfName(name)))
      return { task: acceptedTask(spec, ids[index], ms, waitsFor), existing: false }
    })
    return { submitted, earlier }
  }
}

/** Pairs of a task and a position in its `after`, counted from 1. */
function missingOf(specs: readonly TaskSpec[], pairs: readonly number[], indexes?: readonly number[]) {
  const missing: { index: number; place: number; id: string }[] = []
  for (let at = 0; at < pairs.length; at += 2) {
    const [task, place] = [pairs[at]! - 1, pairs[at + 1]! - 1]
    missing.push({ index: indexes?.[task] ?? task, place, id: String(specs[task]!.after[place]) })
  }
  return missing
}

/** Tasks that are accepted together. */
export interface Call {
  specs: readonly TaskSpec[]
  /** For each task its predecessors, as arguments of submit.lua. */
  after: readonly (readonly string[])[]
  /** By index, the text of a request if it differs from the text of its spec. */
  requests?: ReadonlyMap<number, string>
}

/** A predecessor as an argument of submit.lua: one of the same call, from 0, or one of another partition. */
export const PREDECESSOR = {
  ofCall: (place: number) => `#${place + 1}`,
  /** Checked in another partition, where it is accepted first. */
  elsewhere: '',
  missing: '?',
} as const

/** The arguments of submit.lua for some calls. */
export function submissionOf(
  mode: '' | 'look' | 'tick',
  calls: readonly Call[],
  numbers: Numbers,
  { typeTtlMs, pendingMax, isState, retention }: StoreOptions,
  wasMet: '1' | '',
) {
  const shapes = new Shapes()
  const tasks: (string | number)[] = []
  let count = 0
  for (const { specs, after, requests } of calls) {
    count += specs.length
    tasks.push(specs.length)
    specs.forEach((spec, index) => {
      writeTask(tasks, shapes.numberOf(spec), spec, after[index]!, requests?.get(index))
    })
  }
  const limits = [typeTtlMs, pendingMax ?? '', retention.ageMs, TASK_LIMITS.successorsMax]
  const head = [wasMet, isState ? '1' : '', mode, numbers.take(count), ...limits, shapes.count]
  const args = [...head, ...shapes.args, calls.length]
  for (const arg of tasks) args.push(arg)
  return { args, shapes }
}

/** The common fields of the tasks of a trip, sent once. */
class Shapes {
  readonly args: string[] = []
  readonly #numbers = new Map<string, number>()

  get count(): number {
    return this.#numbers.size
  }

  numberOf(spec: TaskSpec): number {
    const shape = shapeOf(spec)
    const known = this.#numbers.get(shape)
    if (known !== undefined) return known
    this.args.push(spec.type, String(spec.priority), headOf(spec))
    this.#numbers.set(shape, this.count + 1)
    return this.count
  }

  lanes(numbers: readonly string[]): Map<string, number> {
    return new Map([...this.#numbers.keys()].map((shape, index) => [shape, Number(numbers[index])]))
  }
}

function writeTask(
  args: (string | number)[],
  shape: number,
  spec: TaskSpec,
  after: readonly string[],
  stored: string | undefined,
): void {
  const payload = JSON.stringify(spec.payload)
  const extras = extrasOf(spec)
  if (extras === '' && spec.runAt === null && spec.delayMs === 0) {
    args.push(shape, payload)
    return
  }
  const key = spec.idempotencyKey ?? ''
  const request = stored ?? (key === '' ? '' : sameRequest(spec))
  args.push(-shape, payload, extras || NO_EXTRAS, delayOf(spec), spec.runAt ?? '', key, request, after.length, ...after)
}

/** Tasks of the same shape go to the same lane with the same head. */
function shapeOf(spec: TaskSpec): string {
  return `${spec.type} ${spec.priority} ${headOf(spec)}`
}

function delayOf({ delayMs }: TaskSpec): string {
  return delayMs === 0 ? '' : String(delayMs)
}
