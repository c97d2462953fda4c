import type {
  Accompanied,
  AccompaniedAnswer,
  Document,
  DocumentChange,
  DocumentQuery,
  DocumentsAnswer,
  DocumentsStep,
  LastTask,
} from '../../documents.ts'
import type { StoreOptions } from '../../options.ts'
import { queueFull, unstorable } from '../../refusals.ts'
import type { Database } from '../client/database.ts'
import { idOfRef, type Numbers, placeOf } from '../records/ids.ts'
import { submissionOf } from '../submit/submit-codec.ts'

const REF = /^\d+\.\d{13}-\d{10}$/
/** The partition of all documents except schedules. */
const FIRST = 0

type Answer = [now: string, isChanged: number, ...reads: DocumentReply[][]]
type DocumentReply = [id: string, text: string, made: string]

/** The documents: schedules in the partitions of their types, the others in the first one. */
export class Documents {
  readonly #database: Database
  readonly #options: StoreOptions
  readonly #numbers: Numbers
  readonly #dueAt: (partition: number, time: number) => void

  /** @param dueAt is called when something becomes due */
  constructor(
    database: Database,
    options: StoreOptions,
    numbers: Numbers,
    dueAt: (partition: number, time: number) => void,
  ) {
    this.#database = database
    this.#options = options
    this.#numbers = numbers
    this.#dueAt = dueAt
  }

  async step({ changes = [], read = [] }: DocumentsStep): Promise<DocumentsAnswer> {
    const partition = await this.#partitionOf(changes[0]?.type)
    // Schedules are read in every partition, after the change.
    const isSpread = ({ kind }: DocumentQuery) => kind === 'schedule' && this.#database.count > 1
    const here = read.filter((query) => !isSpread(query))
    const isNeeded = changes.length + here.length > 0
    const answer = isNeeded ? await this.#run(partition, changes, here) : { isChanged: true, documents: [] }
    if (answer.isChanged) {
      for (const { to, dueAt } of changes) if (to && typeof dueAt === 'number') this.#dueAt(partition, dueAt)
    }
    const documents: Document[][] = []
    for (const query of read) {
      documents.push(isSpread(query) ? await this.#readAll(query) : answer.documents[here.indexOf(query)]!)
    }
    return { isChanged: answer.isChanged, documents }
  }

  async submitWith({ spec, change, at, afterLast }: Accompanied): Promise<AccompaniedAnswer> {
    const partition = this.#database.partitionOf(change.type)
    const { args } = submissionOf('tick', [{ specs: [spec], after: [[]] }], this.#numbers, this.#options, '')
    const moved = [change.id, change.if.text, change.to, change.dueAt ?? '', at, afterLast ? '1' : '']
    const answer = await this.#database.run<AccompaniedAnswer | ['full', number] | ['unstorable', 1]>(
      'submit_with',
      partition,
      [...moved, ...args],
    )
    if (!Array.isArray(answer)) return answer
    const [refused, waiting] = answer
    throw refused === 'full' ? queueFull(waiting, this.#options.pendingMax!, 1) : unstorable(0)
  }

  async #partitionOf(type: string | undefined): Promise<number> {
    if (type === undefined) return FIRST
    const partition = this.#database.partitionOf(type)
    await this.#database.partitions.add(partition)
    return partition
  }

  async #readAll(query: DocumentQuery): Promise<Document[]> {
    const answers = await this.#database.partitions.each((partition) => this.#run(partition, [], [query]))
    return answers.flatMap(({ documents }) => documents[0]!).sort(byId)
  }

  async #run(partition: number, changes: readonly DocumentChange[], read: readonly DocumentQuery[]) {
    const [now, isChanged, ...reads] = await this.#database.run<Answer>('documents', partition, [
      changes.length,
      ...changes.flatMap((change) => argsOf(partition, change)),
      read.length,
      ...read.flatMap(({ kind, ids }) => [kind, ids?.length ?? '', ...(ids ?? [])]),
    ])
    this.#database.sawTime(now)
    return { isChanged: isChanged === 1, documents: reads.map((found) => documentsOf(partition, found)) }
  }
}

/** The arguments of a change, see documents.lua. */
function argsOf(partition: number, { kind, id, if: condition, to, dueAt, lastTask }: DocumentChange) {
  const [name, text] = typeof condition === 'object' ? ['text', condition.text] : [condition ?? '', '']
  const action = to === undefined ? '' : to === null ? 'remove' : 'set'
  return [kind, id, name, text, action, to ?? '', dueAt ?? '', lastTask ? madeOf(partition, lastTask) : '']
}

function documentsOf(partition: number, found: readonly DocumentReply[]): Document[] {
  return found.map(([id, text, made]) => ({ id, text, lastTask: lastTaskOf(partition, made) })).sort(byId)
}

function byId(a: Document, b: Document): number {
  return a.id < b.id ? -1 : 1
}

/** A task from another store keeps its id, and has no ref. */
function madeOf(partition: number, { at, taskId }: LastTask): string {
  const place = taskId === null ? null : placeOf(taskId)
  return `${at} ${place?.partition === partition ? place.ref : (taskId ?? '-')}`
}

function lastTaskOf(partition: number, made: string): LastTask | null {
  if (made === '') return null
  const [at, task = '-'] = made.split(' ')
  return { at: Number(at), taskId: task === '-' ? null : REF.test(task) ? idOfRef(partition, task) : task }
}
