import type { XQueueError } from '../../../task/errors.ts'
import { acceptedTask, isSameRequest, type TaskSpec } from '../../../task/task.ts'
import { Batcher } from '../../batcher.ts'
import {
  keyConflict,
  lostTypes,
  queueFull,
  refuseUses,
  tooManySuccessors,
  unknownPredecessors,
  unknownTypes,
  unstorable,
} from '../../refusals.ts'
import { incomplete } from '../../state.ts'
import type { StoreOptions, Submitted } from '../../store.ts'
import type { Database } from '../client/database.ts'
import { readLimit } from '../limits/limit-fields.ts'
import type { NamedLimits } from '../limits/named-limits.ts'
import { idOf, idOfName, idOfRef, type Numbers } from '../records/ids.ts'
import {
  type Answer,
  type Call,
  PREDECESSOR,
  type Refusal,
  readReply,
  type SubmitReply,
  shapeOf,
  submissionOf,
} from './submit-codec.ts'

/** Approximate number of tasks of several calls in one trip; a larger call has its own trip. */
const TASKS_MAX = 1_000
/** A call weighs as much as this many tasks: few calls fill a trip, so that another trip is under way beside it. */
const CALL_WEIGHT = 20
const TRIPS_MAX = 2

interface Asked {
  answer: Answer
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
  readonly #batchers: Batcher<Call, Asked>
  readonly #registered: () => Promise<string[]>
  readonly #limits: NamedLimits

  /** @param registered returns the known types, for a refusal */
  constructor(
    database: Database,
    partition: number,
    options: StoreOptions,
    numbers: Numbers,
    registered: () => Promise<string[]>,
    limits: NamedLimits,
  ) {
    this.#database = database
    this.#partition = partition
    this.#limits = limits
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
    const send = (asked: Call) => this.#batchers.add(asked)
    const first = await send(call)
    const { answer, lanes } = first.answer.kind === 'accepted' ? first : await this.#askAgain(call, first, send)
    if (answer.kind !== 'accepted') throw await this.#refusal(specs, answer)
    return this.#accepted(call, lanes, answer)
  }

  /**
   * Whether a part of a batch would be accepted: returns its unknown types.
   * @param indexes the positions of the tasks in the batch
   * @throws XQueueError the other errors of `add`
   */
  async check(call: Call, indexes: readonly number[]): Promise<string[]> {
    const send = async (asked: Call) => (await this.#send([asked], 'check'))[0]!
    const { answer } = await this.#askAgain(call, await send(call), send)
    if (answer.kind === 'accepted') return []
    if (answer.kind === 'unknown') return answer.types
    throw await this.#refusal(call.specs, answer, indexes)
  }

  /**
   * The answer to a call after what a first answer asks for. The step compares requests as texts. If those differ
   * although the request is the same (an earlier version also wrote the defaults), it is called once more with the
   * texts that the store has.
   */
  async #askAgain(call: Call, first: Asked, send: (call: Call) => Promise<Asked>): Promise<Asked> {
    let asked = first
    if (asked.answer.kind === 'limits') {
      const missing = [...asked.answer.settings].flatMap(([name, text]) => (text === '' ? [name] : []))
      if (await this.#limits.use(missing, this.#partition)) asked = await send(call)
    }
    const { answer } = asked
    if (answer.kind !== 'conflict') return asked
    const requests = new Map<number, string>()
    for (const conflict of answer.conflicts) {
      const { index, request } = conflict
      if (request === '' || !isSameRequest(request, call.specs[index]!)) {
        return { ...asked, answer: { kind: 'conflict', conflicts: [conflict] } }
      }
      requests.set(index, request)
    }
    return send({ ...call, requests })
  }

  /** @param indexes positions of the specs in the caller's batch, if they are only some of it */
  async #refusal(specs: readonly TaskSpec[], answer: Refusal, indexes?: readonly number[]): Promise<XQueueError> {
    const indexOf = (index: number) => indexes?.[index] ?? index
    switch (answer.kind) {
      case 'unknown':
        return unknownTypes(specs, new Set(answer.types), await this.#registered())
      case 'lost':
        return lostTypes(specs)
      case 'conflict': {
        const { index, ref } = answer.conflicts[0]!
        const taskId = ref === '' ? null : idOfRef(this.#partition, ref)
        return keyConflict(specs[index]!.idempotencyKey!, indexOf(index), taskId)
      }
      case 'limits':
        return refusedUses(specs, answer, indexOf)
      case 'full':
        return queueFull(answer.waiting, this.#options.pendingMax!, specs.length)
      case 'crowd':
        return tooManySuccessors(idOfName(answer.name))
      case 'unstorable':
        return unstorable(indexOf(answer.index))
      case 'no_predecessor':
        return unknownPredecessors(
          answer.missing.map(({ index, place }) => {
            return { index: indexOf(index), place, id: String(specs[index]!.after[place]) }
          }),
        )
    }
  }

  async #send(calls: readonly Call[], mode: '' | 'check' = ''): Promise<Asked[]> {
    const { args, shapes } = submissionOf(
      mode,
      calls,
      this.#numbers,
      this.#options,
      this.#database.wasMet(this.#partition),
    )
    const answer = await this.#database.run<SubmitReply>('submit', this.#partition, args)
    if (answer === 'incomplete') throw incomplete()
    const [numbers, answers] = answer
    const lanes = shapes.lanes(numbers)
    return answers.map((reply) => ({ answer: readReply(reply), lanes }))
  }

  #accepted(
    { specs, after }: Call,
    lanes: ReadonlyMap<string, number>,
    { first, existing }: Extract<Answer, { kind: 'accepted' }>,
  ): Accepted {
    const earlier = new Map(existing.map(({ index, ref }) => [index, idOfRef(this.#partition, ref)]))
    const dash = first.indexOf('-')
    const ms = Number(first.slice(0, dash))
    let n = Number(first.slice(dash + 1))
    const ids: string[] = []
    for (const [index, id] of earlier) ids[index] = id
    const submitted = specs.map((spec, index) => {
      if (earlier.has(index)) return null
      ids[index] = idOf(this.#partition, lanes.get(shapeOf(spec))!, ms, n)
      n += 1
      const names = after[index]!
      if (names.length === 0) return { task: acceptedTask(spec, ids[index], ms), existing: false }
      const waitsFor = names.map((name) => {
        const place = PREDECESSOR.placeOf(name)
        return place === null ? idOfName(name) : ids[place]!
      })
      return { task: acceptedTask(spec, ids[index], ms, waitsFor), existing: false }
    })
    return { submitted, earlier }
  }
}

/** @param indexOf the position of a task in the caller's batch */
function refusedUses(
  specs: readonly TaskSpec[],
  { settings, indexes }: Extract<Answer, { kind: 'limits' }>,
  indexOf: (index: number) => number,
): XQueueError {
  try {
    refuseUses(
      indexes.map((index) => [indexOf(index), specs[index]!] as const),
      (name) => readLimit({ settings: settings.get(name) ?? '', held: '' }),
    )
  } catch (error) {
    return error as XQueueError
  }
  return unstorable(indexOf(indexes[0]!))
}
