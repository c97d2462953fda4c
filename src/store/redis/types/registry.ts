import { RETRY_DEFAULTS, retryDelaysMs } from '../../../task/retry.ts'
import { GatheredRates, SLOT_MS } from '../../rates.ts'
import type { HandlerSettings, TypeChange } from '../../store.ts'
import type { Database } from '../client/database.ts'
import type { Reply } from '../client/redis-connection.ts'

/** The back-off of a type's retries; scripts read the other rules of the type themselves. */
export interface BackOff {
  delaysMs: readonly number[]
  jitter: number
}

const DEFAULT_BACK_OFF: BackOff = { delaysMs: retryDelaysMs(RETRY_DEFAULTS), jitter: RETRY_DEFAULTS.jitter }
/** A back-off is read again after this time, in case the message of its change was lost. */
const CACHE_MS = 10_000
/** Maximum number of types in one step. */
const TYPES_AT_ONCE = 500

/** The rules of types, and the statistics that this process gathers. */
export class Registry {
  readonly rates = new GatheredRates()
  readonly #database: Database
  /** The handlers that this process declared, in case Redis loses them. */
  readonly #declared = new Map<string, HandlerSettings>()
  readonly #backOffs = new Map<string, BackOff & { at: number }>()

  constructor(database: Database) {
    this.#database = database
  }

  /** The back-off of a type that `know` has read. */
  policy(type: string): BackOff {
    return this.#backOffs.get(type) ?? DEFAULT_BACK_OFF
  }

  async know(types: readonly string[]): Promise<void> {
    const now = Date.now()
    const unknown = [...new Set(types)].filter((type) => now - (this.#backOffs.get(type)?.at ?? 0) > CACHE_MS)
    for (const [partition, some] of Map.groupBy(unknown, (type) => this.#database.partitionOf(type))) {
      for (let from = 0; from < some.length; from += TYPES_AT_ONCE) {
        const asked = some.slice(from, from + TYPES_AT_ONCE)
        const answers = await this.#database.run<(string | null)[]>('back_offs', partition, [asked.length, ...asked])
        answers.forEach((text, index) => {
          this.#backOffs.set(asked[index]!, { ...readBackOff(text ?? ''), at: now })
        })
      }
    }
  }

  /** A type was changed, by this process or another. */
  forget(type: string): void {
    this.#backOffs.delete(type)
  }

  /** Returns false for a change of a type that does not exist. */
  async configure(type: string, change: TypeChange): Promise<boolean> {
    const [answer] = await this.#configure(this.#database.partitionOf(type), [[type, change]])
    return answer === 'ok'
  }

  /** Declares this process's handlers. */
  async declare(handlers: ReadonlyMap<string, HandlerSettings>): Promise<void> {
    await this.#tell(handlers)
  }

  /** Redis may have lost the last declarations, or everything. */
  async tellAgain(): Promise<void> {
    const declared = [...this.#declared]
    for (let from = 0; from < declared.length; from += TYPES_AT_ONCE) {
      await this.#tell(new Map(declared.slice(from, from + TYPES_AT_ONCE)), true)
    }
  }

  async #tell(handlers: ReadonlyMap<string, HandlerSettings>, ifMissing = false): Promise<void> {
    const changes = [...handlers].map(([type, handler]) => [type, { handler }] as const)
    for (const [partition, some] of Map.groupBy(changes, ([type]) => this.#database.partitionOf(type))) {
      await this.#configure(partition, some, ifMissing)
    }
  }

  /** @param ifMissing does not change a type that a handler has already declared */
  async #configure(
    partition: number,
    changes: readonly (readonly [type: string, change: TypeChange])[],
    ifMissing = false,
  ): Promise<Reply[]> {
    const args = [this.#database.wasMet(partition), ifMissing ? '1' : '', changes.length]
    for (const [type] of changes) args.push(type)
    for (const [type, change] of changes) args.push(...argsOf(type, change))
    if (changes.some(([, { handler, declared }]) => handler || declared)) await this.#database.partitions.add(partition)
    const answers = await this.#database.run<Reply[]>('configure', partition, args)
    this.#database.met(partition)
    for (const [index, [type, { handler }]] of changes.entries()) {
      this.forget(type)
      if (handler && answers[index] === 'ok') this.#declared.set(type, handler)
    }
    return answers
  }

  /** Adds the gathered statistics to those of all processes. */
  async writeRates(): Promise<void> {
    const byPartition = new Map<number, string[]>()
    for (const [type, { finished, wait, run }] of this.rates.take()) {
      const partition = this.#database.partitionOf(type)
      const fields = byPartition.get(partition) ?? []
      byPartition.set(partition, fields)
      if (finished > 0) fields.push(`${type} f`, String(finished))
      for (const [letter, histogram] of [
        ['w', wait],
        ['r', run],
      ] as const) {
        histogram.forEach((n, bucket) => {
          if (n > 0) fields.push(`${type} ${letter}${bucket}`, String(n))
        })
      }
    }
    const slot = Math.floor(this.#database.now() / SLOT_MS)
    for (const [partition, fields] of byPartition) {
      await this.#database.run('rates', partition, [slot, fields.length / 2, ...fields])
    }
  }
}

/** A type and its change, as arguments of configure.lua. */
function argsOf(type: string, change: TypeChange): string[] {
  const { handler, declared, maxConcurrency, groupConcurrency, rate, paused, heldUntil, ceilings, retention } = change
  const args = [type, handler || declared ? '1' : '']
  if (handler) {
    const { retry, payloadSchema, defaults } = handler
    const backOff = { delaysMs: retryDelaysMs(retry), jitter: retry.jitter }
    const limits = [handler.maxConcurrency, handler.groupConcurrency, handler.rate?.max, handler.rate?.perMs]
    args.push('1', ...limits.map((limit) => String(limit ?? '')), writeBackOff(backOff))
    args.push(payloadSchema === null ? '' : JSON.stringify(payloadSchema), JSON.stringify(defaults))
  } else args.push('', '', '', '', '', '', '', '')
  const flag = (value: boolean | undefined) => (value === undefined ? '' : value ? '1' : '0')
  const limit = (value: number | null | undefined) => (value === undefined ? '' : String(value ?? 'none'))
  args.push(flag(declared), limit(maxConcurrency), limit(groupConcurrency), limit(rate === null ? null : rate?.max))
  const json = (value: object | undefined) => (value === undefined ? '' : JSON.stringify(value))
  args.push(String(rate?.perMs ?? ''), flag(paused), json(ceilings), limit(heldUntil), json(retention))
  args.push(handler ? JSON.stringify(handler.retention ?? {}) : '')
  return args
}

function writeBackOff({ delaysMs, jitter }: BackOff): string {
  return [jitter, ...delaysMs].join(',')
}

/** @param text '' if no handler has declared one */
function readBackOff(text: string): BackOff {
  if (text === '') return DEFAULT_BACK_OFF
  const [jitter = 0, ...delaysMs] = text.split(',').map(Number)
  return { jitter, delaysMs }
}
