import type { XQueueError } from '../../task/errors.ts'
import { acceptedTask, isSameRequest, sameRequest, TASK_LIMITS, type TaskSpec } from '../../task/task.ts'
import { Batcher } from '../batcher.ts'
import type { EngineOptions, Submitted } from '../engine.ts'
import {
  keyConflict,
  lostTypes,
  queueFull,
  tooManySuccessors,
  unknownPredecessors,
  unknownTypes,
  unstorable,
} from '../refusals.ts'
import { incomplete } from '../state.ts'
import { idOf, idOfName, idOfRef, type Numbers } from './ids.ts'
import { NO_EXTRAS } from './keys.ts'
import { extrasOf, headOf } from './rows.ts'
import type { RedisStore } from './store.ts'

/** One trip carries about so many tasks of several calls; a larger call goes alone. */
const TASKS_MAX = 1_000
/** A call weighs as much as so many tasks: few of them fill a trip, so that another is under way beside it. */
const CALL_WEIGHT = 20
const TRIPS_MAX = 2

/** What submit.lua answers a call: its first entry id, alone or with those that were accepted before. */
type Told =
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
  told: Told
  /** Number of the lane of each shape of the trip. */
  lanes: ReadonlyMap<string, number>
}

/** What the engine answers beside a new task: where one is that a known key stands for. */
export interface Accepted {
  submitted: (Submitted | null)[]
  /** By index, ids of tasks that were accepted before. */
  earlier: Map<number, string>
}

/** Submissions to one partition; those that come together go together, each of them accepted whole or not at all. */
export class Submissions {
  readonly #store: RedisStore
  readonly #partition: number
  readonly #options: EngineOptions
  readonly #numbers: Numbers
  readonly #batchers: Batcher<Call, Answer>
  readonly #registered: () => Promise<string[]>

  /** @param registered asks which types there are, for a refusal */
  constructor(
    store: RedisStore,
    partition: number,
    options: EngineOptions,
    numbers: Numbers,
    registered: () => Promise<string[]>,
  ) {
    this.#store = store
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
    const { told, lanes } = await this.#ask(call, (asked) => this.#batchers.add(asked))
    if (typeof told === 'string') return this.#accepted(call, lanes, told, [])
    if (told[0] !== 'some') throw await this.#refusal(specs, told)
    const [, first, ...existing] = told
    return this.#accepted(call, lanes, first, existing)
  }

  /**
   * Whether a part of a batch would be accepted: answers its types that are unknown.
   * @param indexes where the tasks stand in the batch
   * @throws XQueueError what else `add` would throw
   */
  async check(call: Call, indexes: readonly number[]): Promise<string[]> {
    const { told } = await this.#ask(call, async (asked) => (await this.#send([asked], 'look'))[0]!)
    if (typeof told === 'string' || told[0] === 'some') return []
    if (told[0] === 'unknown') return told.slice(1) as string[]
    throw await this.#refusal(call.specs, told, indexes)
  }

  /**
   * The step compares requests as texts. Where those differ though the caller asks for the same (an earlier version
   * wrote the defaults too), it is asked once more with the texts that it has.
   */
  async #ask(call: Call, send: (call: Call) => Promise<Answer>): Promise<Answer> {
    const answer = await send(call)
    const { told } = answer
    if (typeof told === 'string' || told[0] !== 'conflict') return answer
    const requests = new Map<number, string>()
    for (let at = 1; at < told.length; at += 3) {
      const [index, request] = [Number(told[at]) - 1, String(told[at + 2])]
      if (request === '' || !isSameRequest(request, call.specs[index]!)) {
        return { ...answer, told: ['conflict', told[at]!, told[at + 1]!, request] }
      }
      requests.set(index, request)
    }
    return send({ ...call, requests })
  }

  /** @param indexes where the specs stand in the caller's batch, if they are only some of it */
  async #refusal(
    specs: readonly TaskSpec[],
    answer: Exclude<Told, string | ['some', ...unknown[]]>,
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
      this.#store.wasMet(this.#partition),
    )
    const answer = await this.#store.run<'incomplete' | [string[], Told[]]>('submit', this.#partition, args)
    if (answer === 'incomplete') throw incomplete()
    const [numbers, answers] = answer
    const lanes = shapes.lanes(numbers)
    return answers.map((told) => ({ told, lanes }))
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

/** Pairs of a task and a place in its `after`, counted from 1. */
function missingOf(specs: readonly TaskSpec[], pairs: readonly number[], indexes?: readonly number[]) {
  const missing: { index: number; place: number; id: string }[] = []
  for (let at = 0; at < pairs.length; at += 2) {
    const [task, place] = [pairs[at]! - 1, pairs[at + 1]! - 1]
    missing.push({ index: indexes?.[task] ?? task, place, id: String(specs[task]!.after[place]) })
  }
  return missing
}

/** What a caller wants accepted together. */
export interface Call {
  specs: readonly TaskSpec[]
  /** For each the tasks that it waits for, as submit.lua takes them. */
  after: readonly (readonly string[])[]
  /** By index, the text of a request where it is not the one that its spec makes. */
  requests?: ReadonlyMap<number, string>
}

/** How submit.lua takes a task that another one waits for: one of the same call, from 0; one of another partition's. */
export const PREDECESSOR = {
  ofCall: (place: number) => `#${place + 1}`,
  /** To be looked at in another partition, where it is accepted first. */
  elsewhere: '',
  missing: '?',
} as const

/** The arguments of submit.lua for some calls. */
export function submissionOf(
  mode: '' | 'look' | 'tick',
  calls: readonly Call[],
  numbers: Numbers,
  { typeTtlMs, pendingMax, isState, retention }: EngineOptions,
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

/** What the tasks of a trip have in common, told once. */
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
