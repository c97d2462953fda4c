import type { XQueueError } from '../../task/errors.ts'
import { acceptedTask, sameRequest, type TaskSpec } from '../../task/task.ts'
import type { EngineOptions, Submitted } from '../engine.ts'
import { keyConflict, queueFull, unknownTypes } from '../refusals.ts'
import { Trips } from '../trips.ts'
import { idOf, idOfRef, type Numbers } from './ids.ts'
import { NO_EXTRAS } from './keys.ts'
import { extrasOf, headOf } from './rows.ts'
import type { RedisStore } from './store.ts'

/** One trip carries about so many tasks of several calls; a larger call goes alone. */
const TASKS_MAX = 1_000
const TRIPS_MAX = 2

type Answer =
  | ['ok', ms: string, n: string, lanes: string[], existing: (string | number)[]]
  | ['unknown', ...types: string[]]
  | ['conflict', index: number, ref: string]
  | ['full', waiting: number]

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
  readonly #trips: Trips<readonly TaskSpec[], Answer>
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
    this.#trips = new Trips((calls) => this.#send(calls), {
      weightOf: (specs) => specs.length,
      weightMax: TASKS_MAX,
      underWayMax: TRIPS_MAX,
    })
  }

  async add(specs: readonly TaskSpec[]): Promise<Accepted> {
    const answer = await this.#trips.add(specs)
    switch (answer[0]) {
      case 'ok':
        return this.#accepted(specs, answer)
      default:
        throw await this.#refusal(specs, answer)
    }
  }

  /**
   * Whether those of a batch that belong here would be accepted: answers their types that are unknown.
   * @throws XQueueError what else `add` would throw
   */
  async check(specs: readonly TaskSpec[], indexes: readonly number[]): Promise<string[]> {
    const here = indexes.map((index) => specs[index]!)
    const [answer] = await this.#send([here], true)
    if (!answer || answer[0] === 'ok') return []
    if (answer[0] === 'unknown') return answer.slice(1) as string[]
    throw await this.#refusal(here, answer, indexes)
  }

  /** @param indexes where the specs stand in the caller's batch, if they are only some of it */
  async #refusal(
    specs: readonly TaskSpec[],
    answer: Exclude<Answer, ['ok', ...unknown[]]>,
    indexes?: readonly number[],
  ): Promise<XQueueError> {
    switch (answer[0]) {
      case 'unknown':
        return unknownTypes(specs, new Set(answer.slice(1) as string[]), await this.#registered())
      case 'conflict': {
        const [, place, ref] = answer
        const taskId = ref === '' ? null : idOfRef(this.#partition, ref)
        return keyConflict(specs[place - 1]!.idempotencyKey!, indexes?.[place - 1] ?? place - 1, taskId)
      }
      case 'full':
        return queueFull(answer[1], this.#options.pendingMax!, specs.length)
    }
  }

  #send(calls: (readonly TaskSpec[])[], onlyLook = false): Promise<Answer[]> {
    const { typeTtlMs, pendingMax } = this.#options
    const tasks = calls.reduce((sum, specs) => sum + specs.length, 0)
    const numbers = [this.#numbers.take(tasks), typeTtlMs, pendingMax ?? '', calls.length]
    const args = [onlyLook ? '1' : '', ...numbers.map(String)]
    for (const specs of calls) writeCall(args, specs)
    return this.#store.run<Answer[]>('submit', this.#partition, args)
  }

  #accepted(specs: readonly TaskSpec[], [, msText, nText, lanes, existing]: Extract<Answer, ['ok', ...unknown[]]>) {
    const earlier = new Map<number, string>()
    for (let index = 0; index < existing.length; index += 2) {
      earlier.set(Number(existing[index]) - 1, idOfRef(this.#partition, String(existing[index + 1])))
    }
    const [ms, n] = [Number(msText), Number(nText)]
    const laneOf = new Map<string, number>()
    let added = 0
    const submitted = specs.map((spec, index) => {
      const shape = shapeOf(spec)
      if (!laneOf.has(shape)) laneOf.set(shape, Number(lanes[laneOf.size]))
      if (earlier.has(index)) return null
      const id = idOf(this.#partition, laneOf.get(shape)!, ms, n + added)
      added += 1
      return { task: acceptedTask(spec, id, ms), existing: false }
    })
    return { submitted, earlier }
  }
}

function writeCall(args: string[], specs: readonly TaskSpec[]): void {
  const shapes = new Map<string, number>()
  const tasks: string[] = []
  const shapeArgs: string[] = []
  for (const spec of specs) {
    const key = shapeOf(spec)
    let shape = shapes.get(key)
    if (shape === undefined) {
      shape = shapes.size + 1
      shapes.set(key, shape)
      shapeArgs.push(spec.type, String(spec.priority), headOf(spec))
    }
    const payload = JSON.stringify(spec.payload)
    const extras = extrasOf(spec)
    if (extras === '' && spec.runAt === null && spec.delayMs === 0) tasks.push(String(shape), payload)
    else {
      const key = spec.idempotencyKey ?? ''
      const request = key === '' ? '' : sameRequest(spec)
      tasks.push(String(-shape), payload, extras || NO_EXTRAS, delayOf(spec), String(spec.runAt ?? ''))
      tasks.push(key, request)
    }
  }
  args.push(String(shapes.size))
  for (const text of shapeArgs) args.push(text)
  args.push(String(specs.length))
  for (const text of tasks) args.push(text)
}

/** Tasks of the same shape go to the same lane with the same head. */
function shapeOf(spec: TaskSpec): string {
  return `${spec.type} ${spec.priority} ${headOf(spec)}`
}

function delayOf({ delayMs }: TaskSpec): string {
  return delayMs === 0 ? '' : String(delayMs)
}
