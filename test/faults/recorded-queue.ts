import type { Queue, Turn } from '../../src/queue/queue.ts'
import type { Task } from '../../src/task/task.ts'
import type { Line } from './history.ts'

type HandOut = Pick<Task, 'id' | 'deliveries' | 'startedAt'>

/**
 * The tokens of the leases that a worker was handed. A handler is not told its own; the history needs it, because a
 * store that has lost its last moments counts hand-outs from there again.
 */
export class LeaseTokens {
  readonly #tokens = new Map<string, string>()

  add(lease: string, task: HandOut): void {
    this.#tokens.set(nameOf(task), lease)
  }

  /** The lease that the handler of this task runs under; asked once. */
  take(task: HandOut): string {
    const name = nameOf(task)
    const lease = this.#tokens.get(name)
    if (lease === undefined) throw new Error(`a handler runs ${name}, which this worker was not handed`)
    this.#tokens.delete(name)
    return lease
  }
}

function nameOf({ id, deliveries, startedAt }: HandOut): string {
  return `${id}.${deliveries} of ${startedAt}`
}

/** An engine, with what it answers to outcomes written down, and the tokens of the leases that it hands out. */
export function recordedQueue(queue: Queue, write: (line: Line) => void, tokens: LeaseTokens, now = Date.now): Queue {
  const turn = async (asked: Turn) => {
    const { outcomes = [] } = asked
    try {
      const answer = await queue.turn(asked)
      answer.settled.forEach(({ accepted, status }, index) => {
        const { lease, outcome } = outcomes[index]!
        write({ what: 'settled', lease, kind: outcome.kind, accepted, status, at: now() })
      })
      for (const { lease, task } of answer.leases) tokens.add(lease, task)
      return answer
    } catch (error) {
      for (const { lease } of outcomes) write({ what: 'unsure', lease, at: now() })
      throw error
    }
  }
  return new Proxy(queue, {
    get(target, name) {
      if (name === 'turn') return turn
      const value = target[name as keyof Queue] as unknown
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}
