import { invalidField } from '../task/errors.ts'
import type { TaskEvent } from '../task/event.ts'
import type { LogContents, LogLine } from '../task/log-line.ts'
import type { ScheduledTask } from '../task/schedule.ts'
import type { Task } from '../task/task.ts'
import type { Changed, Queue, TaskFilter, Which } from './queue.ts'
import { wrap } from './wrap.ts'

/** Transforms each task, event and task of a schedule before it is shown. */
export type View = <T extends (Task | TaskEvent | ScheduledTask) & { payload?: Task['payload'] }>(shown: T) => T

/** Methods whose answers have no contents. A turn has, because a worker needs them. */
const FORWARDED = [
  ...(['turn', 'predecessor', 'configureType', 'declareHandlers', 'sweep', 'batch', 'types', 'workers'] as const),
  ...(['configureLimit', 'limits', 'stats', 'history', 'keys', 'countCalls', 'health', 'close'] as const),
]

/** The queue with its tasks, events and schedules shown through a view that hides or decrypts parts of them. */
export function redacted(queue: Queue, view: View): Queue {
  const shown = (task: Task | null) => task && view(task)
  const changed = ({ results, next }: Changed): Changed => ({
    results: results.map((result) => ({ ...result, task: shown(result.task) })),
    next,
  })
  const change = (verb: 'cancel' | 'retry') => async (which: Which) => {
    if ('filter' in which) refuseHidden(which.filter, view)
    return changed(await queue[verb](which))
  }
  return wrap(queue, FORWARDED, {
    submit: async (specs) => (await queue.submit(specs)).map(({ task, existing }) => ({ task: view(task), existing })),
    cancel: change('cancel'),
    retry: change('retry'),
    erase: async (ids) => changed(await queue.erase(ids)),
    get: async (ids, options) => (await queue.get(ids, options)).map(shown),
    list: async (query) => {
      refuseHidden(query, view)
      const page = await queue.list(query)
      return { ...page, tasks: page.tasks.map((task) => view(task)) }
    },
    explain: async (id, options) => {
      const explanation = await queue.explain(id, options)
      return explanation && { ...explanation, task: view(explanation.task) }
    },
    attempts: async (id) => {
      const found = await queue.attempts(id)
      if (!found) return null
      const { type, group } = found.task
      const hidden = (error: string | null) => view({ type, group, error } as unknown as Task).error
      const attempts = found.attempts.map((attempt) => ({ ...attempt, error: hidden(attempt.error) }))
      return { ...found, task: view(found.task), attempts }
    },
    logs: async (id, after, max) => {
      const found = await queue.logs(id, after, max)
      return found && { ...found, task: view(found.task), lines: found.lines.map((line) => hiddenLine(line, view)) }
    },
    events: async (query) => {
      const page = await queue.events(query)
      return { ...page, events: page.events.map((event) => view(event)) }
    },
    schedules: async (change) =>
      (await queue.schedules(change)).map((schedule) => ({ ...schedule, task: view(schedule.task) })),
  })
}

/** Message and fields are contents. */
function hiddenLine({ message, fields, ...line }: LogLine, view: View): LogLine {
  const { log } = view({ log: { message, fields } } as unknown as Task & { log: LogContents | string })
  return { ...line, ...(typeof log === 'string' ? { message: log, fields: null } : log) }
}

/**
 * Filtering by a hidden tag, or by a hidden error, would confirm guesses of its value.
 * @throws XQueueError `invalid_request`
 */
function refuseHidden({ tag, error }: TaskFilter, view: View): void {
  if (error !== undefined && view({ error: SOME_ERROR } as unknown as Task).error !== SOME_ERROR) {
    throw invalidField(
      'error',
      'cannot be searched for here, because errors are hidden: leave it out, or ask an operator',
    )
  }
  if (tag === undefined) return
  const shown = view({ tags: { [tag.key]: tag.value } } as unknown as ScheduledTask)
  if (shown.tags?.[tag.key] === tag.value) return
  throw invalidField('tag', `"${tag.key}" is hidden on this server, so no filter may ask for it`)
}

const SOME_ERROR = 'some error'
