import { XQueueError } from '../task/errors.ts'
import type { TaskJson } from '../task/task-json.ts'
import { contextHeaders } from '../trace/inject.ts'
import { call, jsonOf, type Server } from './call.ts'
import type { inputOf } from './submission.ts'

/** The most of one shared call, and of one task in it. */
const SHARED_MAX = 1_000
const SHARED_CHARS_MAX = 1024 * 1024
const SHARED_TASK_CHARS_MAX = 64 * 1024
/** A slow call under way delays others by no more than this. */
const WAIT_MS_MAX = 10
/** Statuses of a shared call that may concern only some of its tasks. None was accepted. */
const OF_SOME: readonly number[] = [400, 404, 405, 409, 413]

type Input = ReturnType<typeof inputOf>

interface Waiting {
  input: Input
  text: string
  resolve(answer: TaskJson | Promise<TaskJson>): void
  reject(error: unknown): void
}

/**
 * Lets concurrent submissions of a type share calls. Types are not mixed: on a Redis Cluster only the tasks of one type
 * are accepted in one step.
 */
export class Submissions {
  readonly #server: Server
  readonly #byType = new Map<string, SharedCalls>()
  /** The server does not answer the tasks of a shared call in full. */
  #isOld = false

  constructor(server: Server) {
    this.#server = server
  }

  async submit(input: Input): Promise<TaskJson> {
    // Positions would be those of the shared call, and a trace belongs to one call.
    const isAlone = this.#isOld || input.after?.some((one) => typeof one !== 'string')
    if (isAlone || contextHeaders() !== null) return submitAlone(this.#server, input)
    const type = String(input.type)
    const calls = this.#byType.get(type) ?? new SharedCalls(this.#server, () => this.#answersIdsOnly())
    this.#byType.set(type, calls)
    try {
      return await calls.submit(input)
    } finally {
      if (calls.isIdle) this.#byType.delete(type)
    }
  }

  #answersIdsOnly(): void {
    this.#isOld = true
  }
}

function submitAlone(server: Server, input: Input): Promise<TaskJson> {
  return call<TaskJson>(server, 'POST', '/tasks', input, { repeatable: input.idempotency_key !== undefined })
}

/**
 * A submission that finds no call under way is sent at once; those that come meanwhile go together with the next call.
 * Each gets its own answer or error.
 */
class SharedCalls {
  readonly #server: Server
  #waiting: Waiting[] = []
  #underWay = 0
  #timer: NodeJS.Timeout | undefined
  readonly #answersIdsOnly: () => void

  /** @param answersIdsOnly is called when the server does not answer tasks in full */
  constructor(server: Server, answersIdsOnly: () => void) {
    this.#server = server
    this.#answersIdsOnly = answersIdsOnly
  }

  get isIdle(): boolean {
    return this.#underWay === 0 && this.#waiting.length === 0
  }

  async submit(input: Input): Promise<TaskJson> {
    if (this.#underWay === 0) {
      this.#underWay = 1
      return this.#alone(input).finally(() => this.#next())
    }
    const text = jsonOf(input)
    if (text.length > SHARED_TASK_CHARS_MAX) return this.#alone(input)
    return new Promise((resolve, reject) => {
      this.#waiting.push({ input, text, resolve, reject })
      this.#timer ??= setTimeout(() => this.#hurry(), WAIT_MS_MAX)
    })
  }

  #alone(input: Input): Promise<TaskJson> {
    return submitAlone(this.#server, input)
  }

  #hurry(): void {
    this.#timer = undefined
    if (this.#waiting.length === 0) return
    this.#underWay += 1
    this.#next()
  }

  /** Ends a call, and sends those that came meanwhile. */
  #next(): void {
    if (this.#waiting.length === 0) this.#underWay -= 1
    else void this.#send(this.#take()).finally(() => this.#next())
    if (this.#waiting.length > 0) return
    clearTimeout(this.#timer)
    this.#timer = undefined
  }

  #take(): Waiting[] {
    let count = 0
    for (let chars = 0; count < this.#waiting.length && count < SHARED_MAX && chars < SHARED_CHARS_MAX; count++) {
      chars += this.#waiting[count]!.text.length
    }
    return this.#waiting.splice(0, count)
  }

  async #send(group: Waiting[]): Promise<void> {
    const [first] = group
    if (group.length === 1) {
      const answer = this.#alone(first!.input)
      first!.resolve(answer)
      return void (await answer.catch(() => undefined))
    }
    try {
      const text = `{"tasks":[${group.map((one) => one.text).join(',')}]}`
      const repeatable = group.every(({ input }) => input.idempotency_key !== undefined)
      const headers = { Prefer: 'return=representation' }
      const more = { text, repeatable, headers }
      const { tasks } = await call<{ tasks: TaskJson[] }>(this.#server, 'POST', '/tasks/batch', undefined, more)
      if (tasks[0]!.type === undefined) this.#answersIdsOnly()
      for (const [index, { resolve }] of group.entries()) resolve(this.#whole(tasks[index]!))
    } catch (error) {
      this.#refused(group, error)
    }
  }

  /** Servers from before shared calls answer some without their fields. */
  #whole(task: TaskJson): TaskJson | Promise<TaskJson> {
    return task.type === undefined ? call(this.#server, 'GET', `/tasks/${task.id}`) : task
  }

  /** Those that a refusal names get their own, and the others are sent together again. */
  #refused(group: Waiting[], error: unknown): void {
    const isOfSome = error instanceof XQueueError && (OF_SOME.includes(error.status) || error.code === 'queue_full')
    if (!isOfSome) {
      for (const { reject } of group) reject(error)
      return
    }
    const places = (error.details.errors ?? []).map(({ path }) => /^tasks\[(\d+)\]/.exec(path)?.[1])
    const named = new Set(places.flatMap((place) => (place === undefined ? [] : [Number(place)])))
    const isNamed = (index: number) => named.size === 0 || named.has(index)
    for (const [index, one] of group.entries()) if (isNamed(index)) one.resolve(this.#alone(one.input))
    this.#waiting.unshift(...group.filter((_, index) => !isNamed(index)))
  }
}
