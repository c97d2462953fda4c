import { type Explanation, type Queue, SUCCESSORS_MAX } from '../queue/queue.ts'
import { predecessorIn, withoutPredecessor } from '../task/flow.ts'
import { TASK_LIMITS } from '../task/task.ts'

/** Tasks that others name: a key without bounds may let tasks of different tenants wait for each other. */

/** Returns those of the ids that are within the bounds. */
type Visible = (ids: readonly string[]) => Promise<ReadonlySet<string>>

/** The error of a task that was canceled because of another one names that, also one outside of the bounds. */
export async function errorMask(all: readonly { error: string | null }[], visible: Visible) {
  const shown = await visible(all.flatMap(({ error }) => predecessorIn(error) ?? []))
  return (error: string | null): string | null => {
    const name = predecessorIn(error)
    return name === null || shown.has(name) ? error : withoutPredecessor(error)
  }
}

/** Where tasks outside of the bounds are among the first ones, all of them are read. */
export async function successorsWithin(
  queue: Queue,
  { task, successors: first, hasMoreSuccessors }: Explanation,
  visible: Visible,
): Promise<Pick<Explanation, 'successors' | 'hasMoreSuccessors'>> {
  const shown = await visible(first)
  if (!hasMoreSuccessors || shown.size === first.length) {
    return { successors: first.filter((id) => shown.has(id)), hasMoreSuccessors }
  }
  const all = await queue.explain(task.id, { successorsMax: TASK_LIMITS.successorsMax })
  const own = await visible(all?.successors ?? [])
  const successors = [...own].slice(0, SUCCESSORS_MAX)
  return { successors, hasMoreSuccessors: own.size > successors.length }
}
