import type { ListQuery, Page, TypeInfo } from '../queue/queue.ts'
import { isFinal, noCounts, type Status } from '../task/status.ts'
import type { Task } from '../task/task.ts'

const PAGE = 1_000
const PAGES_MAX = 10
/** Cache time of the statistics, which many pages may request each second. */
const BELIEVED_MS = 5_000
const LATELY_MS = 60_000

/** The counts of one type. */
type Counts = Pick<TypeInfo, 'pending' | 'delayed' | 'dependent' | 'processing' | 'throughput' | 'waitMs' | 'runMs'>

/**
 * Counts a tenant's tasks by reading its newest 10,000, because the counts of the whole queue include other tenants.
 */
export class Tally {
  readonly #page: (query: ListQuery) => Promise<Page>
  #counted: { at: number; tasks: Promise<Task[]> } | undefined

  constructor(page: (query: ListQuery) => Promise<Page>) {
    this.#page = page
  }

  async all(): Promise<{ counts: Record<Status, number>; throughput: number }> {
    const counts = noCounts()
    const tasks = await this.#tasks()
    for (const { status } of tasks) counts[status] += 1
    return { counts, throughput: throughputOf(tasks) }
  }

  async byType(): Promise<(type: string) => Counts> {
    const byType = Map.groupBy(await this.#tasks(), ({ type }) => type)
    return (type) => {
      const tasks = byType.get(type) ?? []
      const now = Date.now()
      const pending = tasks.filter(({ status }) => status === 'pending')
      return {
        pending: pending.length,
        delayed: pending.filter(({ runAt }) => runAt > now).length,
        dependent: 0,
        processing: tasks.filter(({ status }) => status === 'processing').length,
        throughput: throughputOf(tasks),
        waitMs: null,
        runMs: null,
      }
    }
  }

  #tasks(): Promise<Task[]> {
    const now = performance.now()
    if (this.#counted && now - this.#counted.at < BELIEVED_MS) return this.#counted.tasks
    const tasks = this.#count()
    this.#counted = { at: now, tasks }
    tasks.catch(() => {
      this.#counted = undefined
    })
    return tasks
  }

  async #count(): Promise<Task[]> {
    const tasks: Task[] = []
    let cursor: string | null = null
    for (let pages = 0; pages < PAGES_MAX && (pages === 0 || cursor !== null); pages++) {
      const from: object = cursor === null ? {} : { cursor }
      const page: Page = await this.#page({ limit: PAGE, bare: true, ...from })
      tasks.push(...page.tasks)
      cursor = page.nextCursor
    }
    return tasks
  }
}

function throughputOf(tasks: readonly Task[]): number {
  const since = Date.now() - LATELY_MS
  return tasks.filter(({ status, completedAt }) => isFinal(status) && completedAt! > since).length / 60
}
