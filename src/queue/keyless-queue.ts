import type { Predecessor } from '../task/flow.ts'
import type { Task } from '../task/task.ts'
import { giveUp } from './encrypted-queue.ts'
import { keyOfSealed, placeholder } from './encryption.ts'
import type { Queue } from './queue.ts'
import { redacted, type View } from './redacted-queue.ts'
import { wrap } from './wrap.ts'

const FORWARDED = [
  ...(['submit', 'cancel', 'retry', 'erase', 'get', 'list', 'explain', 'attempts', 'logs', 'events'] as const),
  ...(['schedules', 'configureType', 'declareHandlers', 'sweep', 'batch', 'types', 'workers'] as const),
  ...(['configureLimit', 'limits', 'stats', 'history', 'keys', 'countCalls', 'health', 'close'] as const),
]

/** The queue of a process without keys: other processes may have encrypted what it reads. */
export function keyless(queue: Queue): Queue {
  return wrap(redacted(queue, marked), FORWARDED, {
    turn: async (turn) => {
      const answer = await queue.turn(turn)
      const lost = answer.leases.flatMap(({ lease, task }) => {
        const keyId = keyOfSealed(task.payload)
        return keyId === null ? [] : [{ lease, keyId }]
      })
      if (lost.length > 0) await giveUp(queue, turn, lost)
      const leases = answer.leases.filter(({ lease }) => !lost.some((one) => one.lease === lease))
      for (const { predecessors } of leases) predecessors.forEach(mark)
      return { ...answer, leases }
    },
    predecessor: async (lease, id) => {
      const found = await queue.predecessor(lease, id)
      if (found) mark(found)
      return found
    },
  })
}

/** Nothing is copied where nothing is encrypted, which is the usual case. */
const marked: View = (shown) => {
  let view = shown
  for (const field of ['payload', 'result', 'progress'] as const) {
    const keyId = keyOfSealed((shown as Partial<Task>)[field])
    if (keyId !== null) view = { ...view, [field]: placeholder(keyId) }
  }
  // A line of a log, see redacted-queue.ts.
  const keyId = keyOfSealed((shown as { log?: { message: unknown } }).log?.message)
  return keyId === null ? view : { ...view, log: placeholder(keyId) }
}

function mark(predecessor: Predecessor): void {
  const keyId = keyOfSealed(predecessor.result)
  if (keyId !== null) Object.assign(predecessor, { result: placeholder(keyId) })
}
