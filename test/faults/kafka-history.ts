import { Consumer } from '@platformatic/kafka'
import type { TaskEvent } from '../../src/task/event.ts'
import { isFinal } from '../../src/task/status.ts'
import { check, type History, type Line, type Violation } from './history.ts'

type EventData = Record<string, unknown> & { event_id: string; task_id: string; timestamp: string }

/** All changes of the topic of events, each once, in the order of the outbox. */
export async function eventsOnTopic(address: string, topic: string): Promise<TaskEvent[]> {
  const consumer = new Consumer({
    clientId: 'history',
    groupId: `history-${Math.random()}`,
    bootstrapBrokers: address.split(','),
  })
  const ends = (await consumer.listOffsets({ topics: [topic] })).get(topic)!
  const stream = await consumer.consume({ topics: [topic], mode: 'earliest', autocommit: false, maxWaitTime: 100 })
  const events = new Map<string, TaskEvent>()
  const left = new Set(ends.flatMap((end, partition) => (end > 0n ? [partition] : [])))
  if (left.size > 0) {
    for await (const { value, partition, offset } of stream) {
      const { data, type } = JSON.parse(value!.toString()) as { data: EventData; type: string }
      const event = eventOf(data, type)
      // A state that lost its last moments gives the positions of then again.
      events.set(`${event.id} ${event.taskId} ${event.status}`, event)
      if (offset + 1n >= ends[partition]!) left.delete(partition)
      if (left.size === 0) break
    }
  }
  await consumer.close(true)
  return [...events.values()].sort((a, b) => Number(a.id) - Number(b.id))
}

function eventOf(data: EventData, type: string): TaskEvent {
  const kind = type === 'xqueue.task.progress' ? 'progress' : type === 'xqueue.task.removed' ? 'removed' : 'status'
  return {
    id: data.event_id,
    kind,
    taskId: data.task_id,
    type: data.type,
    status: data.status,
    attempts: data.attempts,
    progress: data.progress,
    result: data.result,
    error: data.error,
    timeoutReason: data.timeout_reason,
    workerId: data.worker_id,
    at: Date.parse(data.timestamp),
  } as TaskEvent
}

/**
 * The faults of a run in which the state lost everything at one time: before and after it all rules hold, and
 * over both no accepted task is lost, and none that had ended, according to the topic, ran again.
 */
export function checkOverLoss(history: History, lostAt: number): Violation[] {
  const { lines, limits } = history
  const isBefore = ({ at }: { at: number }) => at < lostAt
  const before = history.events.filter(isBefore)
  const ended = new Set(before.filter(({ status }) => isFinal(status)).map(({ taskId }) => taskId))
  const after = history.events.filter((event) => !isBefore(event))
  const known = new Set<string>()
  const restored = after.flatMap((event): TaskEvent[] => {
    const isNew = !known.has(event.taskId)
    known.add(event.taskId)
    // There is no event for a restored task: it is pending.
    if (!isNew || event.status === 'pending') return [event]
    return [{ ...event, id: `${event.id}-restored`, kind: 'status', status: 'pending' }, event]
  })
  const ran = after.filter(({ taskId, status }) => ended.has(taskId) && status === 'processing')
  const finished = new Set([...history.events].filter(({ status }) => isFinal(status)).map(({ taskId }) => taskId))
  const lost = lines.filter((line): line is Extract<Line, { what: 'accepted' }> => line.what === 'accepted')
  const outcomesOf = (part: Line[]) => part.filter(({ what }) => what !== 'accepted')
  // Changes that were on their way to Kafka at that time, or were recorded a little later.
  const mayLose = [{ from: lostAt - 2_000, to: lostAt + 200 }]
  return [
    ...check({ events: before, limits, lines: outcomesOf(lines.filter(isBefore)), mayLose }).filter(
      ({ rule }) => rule !== 'not_finished',
    ),
    ...check({ events: restored, limits, lines: outcomesOf(lines.filter((line) => !isBefore(line))), mayLose }),
    ...lost
      .filter(({ id }) => !finished.has(id))
      .map(({ id }): Violation => ({ rule: 'lost', detail: `${id} never ended` })),
    ...ran.map(({ taskId }): Violation => ({ rule: 'finished_twice', detail: `${taskId} had ended, and ran again` })),
  ]
}
