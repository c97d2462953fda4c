import { refuseUnstorable, refuseUnstorableSchedule, storableTurn } from '../store/admission.ts'
import type { Predecessor } from '../task/flow.ts'
import { type Json, JsonText } from '../task/json.ts'
import { taskIdOf } from '../task/lease-token.ts'
import type { ScheduleSpec } from '../task/schedule.ts'
import type { Progress, Task, TaskSpec } from '../task/task.ts'
import { type Encryption, type Opened, placeholder } from './encryption.ts'
import type { Lease, ListQuery, Queue, ScheduleChange, Turn, TurnAnswer } from './queue.ts'
import { RedactedQueue, type View } from './redacted-queue.ts'

/**
 * An engine that passes payloads, results and progress to its store only in encrypted form. The fields that the store
 * itself uses stay readable: types, groups, tags, times and idempotency keys. So do errors, because the store writes
 * some of them itself.
 */
export class EncryptedQueue extends RedactedQueue {
  readonly #queue: Queue
  readonly #encryption: Encryption

  constructor(queue: Queue, encryption: Encryption) {
    super(queue, openWith(encryption))
    this.#queue = queue
    this.#encryption = encryption
  }

  /** A bare task has no encrypted fields. */
  override get(ids: readonly string[], options?: { bare?: boolean }) {
    return options?.bare ? this.#queue.get(ids, options) : super.get(ids, options)
  }

  override list(query: ListQuery) {
    return query.bare ? this.#queue.list(query) : super.list(query)
  }

  override async submit(specs: readonly TaskSpec[]) {
    // The inner engine cannot check encrypted values, so they are checked here.
    refuseUnstorable(specs)
    // A repeated submission must encrypt to the same text. Otherwise the store reports a conflict for its key.
    const sealed = specs.map((spec) => ({
      ...spec,
      payload: this.#encryption.encrypt(spec.payload, aboutPayload(spec), spec.idempotencyKey),
    }))
    return super.submit(sealed)
  }

  override async turn(turn: Turn): Promise<TurnAnswer> {
    const answer = await this.#queue.turn(this.#sealed(storableTurn(turn)))
    const leases: Lease[] = []
    const lost: { lease: string; keyId: string | null }[] = []
    for (const lease of answer.leases) {
      const opened = openPayload(this.#encryption, lease.task)
      if ('keyId' in opened) lost.push({ lease: lease.lease, keyId: opened.keyId })
      else {
        const { id } = lease.task
        const task = { ...openOutcome(this.#encryption, lease.task, id), payload: opened.value }
        leases.push({ ...lease, task, predecessors: lease.predecessors.map((one) => this.#opened(one)) })
      }
    }
    if (lost.length > 0) await this.#giveUp(turn, lost)
    return { ...answer, leases }
  }

  override async predecessor(lease: string, id: string) {
    const found = await this.#queue.predecessor(lease, id)
    return found && this.#opened(found)
  }

  #opened(predecessor: Predecessor): Predecessor {
    return { ...predecessor, result: openResult(this.#encryption, predecessor.result, predecessor.id) }
  }

  override async schedules(change?: ScheduleChange) {
    if (change) refuseUnstorableSchedule(change)
    return super.schedules(change && (await this.#sealedChange(change)))
  }

  async #sealedChange(change: ScheduleChange): Promise<ScheduleChange> {
    // The same id gives the same text, so adding an existing schedule again is recognised.
    const sealed = (id: string, task: Bound, payload: Json) =>
      this.#encryption.encrypt(payload, aboutPayload(task), `schedule:${id}`)
    const whole = <S extends ScheduleSpec>(schedule: S): S => {
      const { id, task } = schedule
      return { ...schedule, task: { ...task, payload: sealed(id, task, task.payload) } }
    }
    if ('add' in change) return { add: whole(change.add) }
    if ('keep' in change) return { keep: whole(change.keep) }
    if (!('alter' in change) || !change.to.task) return change
    const { alter, to } = change
    const { task } = change.to
    if (task.payload === undefined && task.group === undefined) return change
    // The payload is bound to the group: a new group needs the payload encrypted again, and a new payload needs the
    // group.
    const present = (await super.schedules()).find(({ id }) => id === alter)?.task
    const { payload = present?.payload, group = present?.group ?? null } = task
    if (payload === undefined) return change
    return { alter, to: { ...to, task: { ...task, payload: sealed(alter, { type: task.type, group }, payload) } } }
  }

  #sealed({ outcomes, renewals, ...turn }: Turn): Turn {
    const sealResult = (result: Json | JsonText, lease: string) =>
      result === null ? null : this.#encryption.encrypt(result, aboutResult(taskIdOf(lease)))
    return {
      ...turn,
      ...(outcomes && {
        outcomes: outcomes.map(({ lease, outcome }) => ({
          lease,
          outcome: outcome.kind === 'success' ? { ...outcome, result: sealResult(outcome.result, lease) } : outcome,
        })),
      }),
      ...(renewals && {
        renewals: renewals.map(({ lease, progress }) => {
          if (typeof progress !== 'object') return { lease, ...(progress === undefined ? {} : { progress }) }
          const sealed = this.#encryption.encrypt(progress as Json | JsonText, aboutProgress(taskIdOf(lease)))
          return { lease, progress: new JsonText(JSON.stringify(sealed)) }
        }),
      }),
    }
  }

  /**
   * No handler may receive a payload that it cannot read: the attempt fails, and the next attempt may run where the key
   * is.
   */
  async #giveUp({ worker }: Turn, lost: readonly { lease: string; keyId: string | null }[]): Promise<void> {
    const outcomes = lost.map(({ lease, keyId }) => {
      const error =
        keyId === null
          ? 'the payload is not encrypted, and --payload-strict accepts encrypted payloads only'
          : `the payload cannot be decrypted with the key ${keyId} of this worker (--payload-keys)`
      return { lease, outcome: { kind: 'failure', error, retry: true, delayMs: null } as const }
    })
    await this.#queue.turn({ worker, want: 0, outcomes })
  }
}

type Bound = Pick<Task, 'type' | 'group'>

/**
 * Encrypted values are bound to their use, so that none can replace another: a payload, which is encrypted before its
 * task has an id, to type and group; a result and progress to their task.
 */
function aboutPayload({ type, group }: Bound): string {
  return group === null ? aboutType(type) : `${aboutType(type)} in ${group}`
}

const aboutResult = (id: string) => `result of ${id}`
const aboutProgress = (id: string) => `progress of ${id}`

/** What earlier versions bound a payload, a result and progress to. */
const aboutType = (type: string) => `payload of ${type}`
const BEFORE = { result: 'result', progress: 'progress' } as const

function openPayload(encryption: Encryption, { payload, ...task }: Bound & Pick<Task, 'payload'>): Opened {
  return encryption.decrypt(payload, aboutPayload(task), aboutType(task.type))
}

function openWith(encryption: Encryption): View {
  return (shown) => {
    // A schedule's task has no result yet.
    const opened =
      'result' in shown
        ? (openOutcome(encryption, shown, 'taskId' in shown ? shown.taskId : shown.id) as unknown as typeof shown)
        : shown
    if (shown.payload === undefined) return opened
    return { ...opened, payload: shownOf(openPayload(encryption, shown as Bound & Pick<Task, 'payload'>)) }
  }
}

/** Decrypts the result and the progress of a task, or of an event. */
function openOutcome<T extends Pick<Task, 'result' | 'progress'>>(encryption: Encryption, shown: T, id: string): T {
  const { progress } = shown
  const opened =
    // Numbers are not encrypted.
    typeof progress === 'string' || (typeof progress === 'object' && progress !== null)
      ? (shownOf(encryption.decrypt(progress as Json, aboutProgress(id), BEFORE.progress)) as Progress)
      : progress
  return { ...shown, result: openResult(encryption, shown.result, id), progress: opened }
}

/** Null, the absence of a result, is stored unencrypted. */
function openResult(encryption: Encryption, result: Json, id: string): Json {
  return result === null ? null : shownOf(encryption.decrypt(result, aboutResult(id), BEFORE.result))
}

function shownOf(opened: Opened): Json {
  return 'keyId' in opened ? placeholder(opened.keyId) : opened.value
}
