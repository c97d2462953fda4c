import { refuseUnstorable, refuseUnstorableSchedule, storableTurn } from '../store/admission.ts'
import type { Predecessor } from '../task/flow.ts'
import { type Json, JsonText } from '../task/json.ts'
import { taskIdOf } from '../task/lease-token.ts'
import type { AttemptLog, LogLine } from '../task/log-line.ts'
import type { ScheduleSpec } from '../task/schedule.ts'
import type { Progress, Task, TaskSpec } from '../task/task.ts'
import { type Encryption, type Opened, placeholder } from './encryption.ts'
import type { Lease, Queue, ScheduleChange, Turn } from './queue.ts'
import { redacted, type View } from './redacted-queue.ts'
import { wrap } from './wrap.ts'

/** Methods that have no contents, or whose contents the view decrypts. */
const FORWARDED = [
  ...(['cancel', 'retry', 'erase', 'explain', 'attempts', 'events', 'configureType', 'configureLimit'] as const),
  ...(['limits', 'declareHandlers', 'sweep', 'batch', 'types', 'workers', 'stats', 'history', 'keys'] as const),
  ...(['countCalls', 'health', 'close'] as const),
]

/**
 * The queue, which gets payloads, results and progress only in encrypted form. The fields that the store itself uses
 * stay readable: types, groups, tags, times and idempotency keys. So do errors, because the store writes some of them
 * itself.
 */
export function encrypted(queue: Queue, encryption: Encryption): Queue {
  const opened = redacted(queue, openWith(encryption))
  const openedPredecessor = (predecessor: Predecessor): Predecessor => ({
    ...predecessor,
    result: openResult(encryption, predecessor.result, predecessor.id),
  })
  return wrap(opened, FORWARDED, {
    // A bare task has no encrypted fields.
    get: (ids, options) => (options?.bare ? queue : opened).get(ids, options),
    list: (query) => (query.bare ? queue : opened).list(query),
    submit: async (specs) => {
      // The inner queue cannot check encrypted values, so they are checked here.
      refuseUnstorable(specs)
      return opened.submit(specs.map((spec) => sealedSpec(encryption, spec)))
    },
    turn: async (turn) => {
      const answer = await queue.turn(sealedTurn(encryption, storableTurn(turn)))
      const { leases, lost } = openLeases(encryption, answer.leases)
      if (lost.length > 0) await giveUp(queue, turn, lost)
      return {
        ...answer,
        leases: leases.map((lease) => ({ ...lease, predecessors: lease.predecessors.map(openedPredecessor) })),
      }
    },
    logs: async (id, after, max) => {
      const found = await queue.logs(id, after, max)
      return found && { ...found, lines: found.lines.map((line) => openLine(encryption, line, id)) }
    },
    predecessor: async (lease, id) => {
      const found = await queue.predecessor(lease, id)
      return found && openedPredecessor(found)
    },
    schedules: async (change) => {
      if (change) refuseUnstorableSchedule(change)
      return opened.schedules(change && (await sealedChange(encryption, opened, change)))
    },
  })
}

/** A repeated submission must encrypt to the same text. Otherwise the store reports a conflict for its key. */
function sealedSpec(encryption: Encryption, spec: TaskSpec): TaskSpec {
  return { ...spec, payload: encryption.encrypt(spec.payload, aboutPayload(spec), spec.idempotencyKey) }
}

interface Lost {
  lease: string
  keyId: string | null
}

/** The leases with readable tasks, and those whose payload this process cannot read. */
function openLeases(encryption: Encryption, given: readonly Lease[]): { leases: Lease[]; lost: Lost[] } {
  const leases: Lease[] = []
  const lost: Lost[] = []
  for (const lease of given) {
    const opened = openPayload(encryption, lease.task)
    if ('keyId' in opened) lost.push({ lease: lease.lease, keyId: opened.keyId })
    else {
      const task = { ...openOutcome(encryption, lease.task, lease.task.id), payload: opened.value }
      leases.push({ ...lease, task })
    }
  }
  return { leases, lost }
}

async function sealedChange(encryption: Encryption, opened: Queue, change: ScheduleChange): Promise<ScheduleChange> {
  // The same id gives the same text, so adding an existing schedule again is recognised.
  const sealed = (id: string, task: Bound, payload: Json) =>
    encryption.encrypt(payload, aboutPayload(task), `schedule:${id}`)
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
  const present = (await opened.schedules()).find(({ id }) => id === alter)?.task
  const { payload = present?.payload, group = present?.group ?? null } = task
  if (payload === undefined) return change
  return { alter, to: { ...to, task: { ...task, payload: sealed(alter, { type: task.type, group }, payload) } } }
}

function sealedTurn(encryption: Encryption, { outcomes, renewals, logs, ...turn }: Turn): Turn {
  const sealResult = (result: Json | JsonText, lease: string) =>
    result === null ? null : encryption.encrypt(result, aboutResult(taskIdOf(lease)))
  return {
    ...turn,
    ...(outcomes && {
      outcomes: outcomes.map(({ lease, outcome }) => ({
        lease,
        outcome: outcome.kind === 'success' ? { ...outcome, result: sealResult(outcome.result, lease) } : outcome,
      })),
    }),
    ...(logs && { logs: logs.map((log) => sealedLog(encryption, log)) }),
    ...(renewals && {
      renewals: renewals.map(({ lease, progress }) => {
        if (typeof progress !== 'object') return { lease, ...(progress === undefined ? {} : { progress }) }
        const sealed = encryption.encrypt(progress as Json | JsonText, aboutProgress(taskIdOf(lease)))
        return { lease, progress: new JsonText(JSON.stringify(sealed)) }
      }),
    }),
  }
}

/** Time and level stay readable; the encrypted message is message and fields. */
function sealedLog(encryption: Encryption, { lease, lines, ...log }: AttemptLog): AttemptLog {
  const about = aboutLog(taskIdOf(lease))
  const sealed = (line: string) => {
    const { time, level, ...contents } = JSON.parse(line) as { time: string; level: string; [name: string]: Json }
    return JSON.stringify({ time, level, message: encryption.encrypt(contents, about) })
  }
  return { lease, lines: lines.map(sealed), ...log }
}

function openLine(encryption: Encryption, line: LogLine, id: string): LogLine {
  const opened = shownOf(encryption.decrypt(line.message, aboutLog(id)))
  const isWhole = typeof opened === 'object' && opened !== null
  return { ...line, fields: null, ...((isWhole ? opened : { message: opened }) as Partial<LogLine>) }
}

/**
 * No handler may receive a payload that it cannot read: the attempt fails, and the next attempt may run where the key
 * is.
 */
export async function giveUp(queue: Queue, { worker }: Turn, lost: readonly Lost[]): Promise<void> {
  const outcomes = lost.map(({ lease, keyId }) => {
    const error =
      keyId === null
        ? 'the payload is not encrypted, and --payload-strict accepts encrypted payloads only'
        : `the payload cannot be decrypted with the key ${keyId} of this worker (--payload-keys)`
    return { lease, outcome: { kind: 'failure', error, retry: true, delayMs: null } as const }
  })
  await queue.turn({ worker, want: 0, outcomes })
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
const aboutLog = (id: string) => `log of ${id}`

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
