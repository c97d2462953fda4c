import { type Json, JsonText } from '../task/json.ts'
import type { ScheduleSpec } from '../task/schedule.ts'
import type { Progress, Task, TaskSpec } from '../task/task.ts'
import { refuseUnstorable, refuseUnstorableSchedule, storableTurn } from './admission.ts'
import type { Engine, Lease, ListQuery, ScheduleChange, Turn, TurnAnswer } from './engine.ts'
import { placeholder, type Seal } from './seal.ts'
import { type View, ViewedEngine } from './viewed.ts'

/**
 * An engine that is told payloads, results and progress only sealed, so that its store tells nobody what they are.
 * Everything that it goes by stays readable: types, groups, tags, times, idempotency keys; and errors, in which it
 * writes itself.
 */
export class SealingEngine extends ViewedEngine {
  readonly #engine: Engine
  readonly #seal: Seal

  constructor(engine: Engine, seal: Seal) {
    super(engine, openWith(seal))
    this.#engine = engine
    this.#seal = seal
  }

  /** Nothing of a bare task is sealed. */
  override get(ids: readonly string[], look?: { bare?: boolean }) {
    return look?.bare ? this.#engine.get(ids, look) : super.get(ids, look)
  }

  override list(query: ListQuery) {
    return query.bare ? this.#engine.list(query) : super.list(query)
  }

  override async submit(specs: readonly TaskSpec[]) {
    // An engine cannot look into what is sealed.
    refuseUnstorable(specs)
    // A repeated submission must be the same as it was, or it would be taken for another one under the same key.
    const sealed = specs.map((spec) => ({
      ...spec,
      payload: this.#seal.seal(spec.payload, aboutPayload(spec), spec.idempotencyKey),
    }))
    return super.submit(sealed)
  }

  override async turn(turn: Turn): Promise<TurnAnswer> {
    const answer = await this.#engine.turn(this.#sealed(storableTurn(turn)))
    const leases: Lease[] = []
    const lost: { lease: string; keyId: string }[] = []
    for (const lease of answer.leases) {
      const opened = this.#seal.open(lease.task.payload, aboutPayload(lease.task))
      if ('keyId' in opened) lost.push({ lease: lease.lease, keyId: opened.keyId })
      else {
        const task = { ...openOutcome(this.#seal, lease.task), payload: opened.value }
        const predecessors = lease.predecessors.map((one) => ({ ...one, result: openResult(this.#seal, one.result) }))
        leases.push({ ...lease, task, predecessors })
      }
    }
    if (lost.length > 0) await this.#giveUp(turn, lost)
    return { ...answer, leases }
  }

  override async schedules(change?: ScheduleChange) {
    if (change) refuseUnstorableSchedule(change)
    return super.schedules(change && this.#sealedChange(change))
  }

  #sealedChange(change: ScheduleChange): ScheduleChange {
    // The same under the same id: adding what is there already is known again.
    const sealed = (id: string, type: string, payload: Json) =>
      this.#seal.seal(payload, aboutPayload({ type }), `schedule:${id}`)
    const whole = <S extends ScheduleSpec>(schedule: S): S => {
      const { id, task } = schedule
      return { ...schedule, task: { ...task, payload: sealed(id, task.type, task.payload) } }
    }
    if ('add' in change) return { add: whole(change.add) }
    if ('keep' in change) return { keep: whole(change.keep) }
    if (!('alter' in change) || change.to.task?.payload === undefined) return change
    const { alter, to } = change
    const payload = sealed(alter, change.to.task.type, change.to.task.payload)
    return { alter, to: { ...to, task: { ...change.to.task, payload } } }
  }

  #sealed({ outcomes, renewals, ...turn }: Turn): Turn {
    const sealResult = (result: Json | JsonText) => (result === null ? null : this.#seal.seal(result, 'result'))
    return {
      ...turn,
      ...(outcomes && {
        outcomes: outcomes.map(({ lease, outcome }) => ({
          lease,
          outcome: outcome.kind === 'success' ? { ...outcome, result: sealResult(outcome.result) } : outcome,
        })),
      }),
      ...(renewals && {
        renewals: renewals.map(({ lease, progress }) => {
          if (typeof progress !== 'object') return { lease, ...(progress === undefined ? {} : { progress }) }
          const sealed = this.#seal.seal(progress as Json | JsonText, 'progress')
          return { lease, progress: new JsonText(JSON.stringify(sealed)) }
        }),
      }),
    }
  }

  /** No handler may get a payload that it cannot read: the attempt fails, and the next one may be where the key is. */
  async #giveUp({ worker }: Turn, lost: readonly { lease: string; keyId: string }[]): Promise<void> {
    const outcomes = lost.map(({ lease, keyId }) => {
      const error = `the payload is encrypted with the key ${keyId}, which this worker does not have (--payload-keys)`
      return { lease, outcome: { kind: 'failure', error, retry: true, delayMs: null } as const }
    })
    await this.#engine.turn({ worker, want: 0, outcomes })
  }
}

function aboutPayload({ type }: Pick<Task, 'type'>): string {
  return `payload of ${type}`
}

function openWith(seal: Seal): View {
  return (shown) => {
    // A schedule's task has come to nothing yet.
    const opened = 'result' in shown ? (openOutcome(seal, shown) as unknown as typeof shown) : shown
    return shown.payload === undefined
      ? opened
      : { ...opened, payload: shownOf(seal.open(shown.payload, aboutPayload(shown))) }
  }
}

/** What the task's attempts have come to, in a task and in an event alike. */
function openOutcome<T extends Pick<Task, 'result' | 'progress'>>(seal: Seal, shown: T): T {
  const result = openResult(seal, shown.result)
  const progress = shownOf(seal.open(shown.progress as Json, 'progress')) as Progress | null
  return { ...shown, result, progress }
}

function openResult(seal: Seal, result: Json): Json {
  return shownOf(seal.open(result, 'result'))
}

function shownOf(opened: ReturnType<Seal['open']>): Json {
  return 'keyId' in opened ? placeholder(opened.keyId) : opened.value
}
