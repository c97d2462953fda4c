import { call, TERMINAL } from './api.ts'
import { confirmed, confirmedRun, toast } from './feedback.tsx'
import { forget, type Row } from './live.ts'
import { may } from './session.ts'
import { filterOf, isOfPage, type Search } from './task-search.ts'
import { momentOf, number, say } from './words.ts'

export type Action = 'retry' | 'cancel' | 'purge'
const ACTIONS: readonly Action[] = ['retry', 'cancel', 'purge']
/** Changes of a selection that are under way at once. */
const AT_ONCE = 8

export const RETRYABLE: readonly string[] = ['failed', 'canceled', 'timeout']
const FITS: Record<Action, (status: string) => boolean> = {
  retry: (status) => RETRYABLE.includes(status),
  cancel: (status) => !TERMINAL.includes(status),
  purge: (status) => TERMINAL.includes(status),
}

/** Shown while tasks are selected; each action changes those of them that it can change. */
export function SelectionBar({ tasks, clear, done }: { tasks: Row[]; clear: () => void; done: () => Promise<void> }) {
  return (
    <div class="selection" role="group" aria-label={say('selection')}>
      <b>{say('selected', number(tasks.length))}</b>
      {ACTIONS.map((action) => {
        const ids = tasks.filter(({ status }) => FITS[action](status)).map(({ id }) => id)
        return ids.length === 0 ? null : (
          <button
            key={action}
            type="button"
            class={action === 'retry' ? '' : 'plain'}
            onClick={() => void changeChosen(action, ids, clear, done)}
          >
            {say(`action_${action}`)} {number(ids.length)}
          </button>
        )
      })}
      <button type="button" class="plain" onClick={clear}>
        {say('clear')}
      </button>
    </div>
  )
}

/** Asks, and changes these tasks one by one. */
export async function changeChosen(
  action: Action,
  ids: readonly string[],
  clear: () => void,
  done: () => Promise<void>,
): Promise<void> {
  const question = {
    title: say(`ask_${action}`, number(ids.length)),
    detail: say(`effect_${action}`),
    action: say(`action_${action}`),
    isDanger: action !== 'retry',
  }
  if (!(await confirmed(question))) return
  const refused: string[] = []
  const left = [...ids]
  const work = async () => {
    for (let id = left.pop(); id !== undefined; id = left.pop()) {
      const change = action === 'cancel' ? call('DELETE', `/tasks/${id}`) : call('POST', `/tasks/${id}/${action}`)
      await change.catch((error: Error) => refused.push(error.message))
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, work))
  if (action === 'purge') forget(ids)
  toast(say(`done_${action}`, number(ids.length - refused.length)))
  if (refused.length > 0) toast(say('refused', number(refused.length), refused[0]), true)
  clear()
  await done().catch(() => undefined)
}

interface MatchingProps {
  search: Search
  /** The tasks that the page has found. */
  rows: readonly Row[]
  done: () => void
}

/** Changes of all tasks that a search matches, by the server; of those that the page has found, where it compares too. */
export function MatchingActions({ search, rows, done }: MatchingProps) {
  const { status } = search
  const isOnlyFound = isOfPage(search) || !may('admin')
  if (!may('submit')) return null
  const label = say(isOnlyFound ? 'allFound' : 'allMatching')
  const change = (action: Action) => {
    if (!isOnlyFound) return changeMatching(action, filterOf(search), [], done)
    const ids = rows.filter((row) => FITS[action](row.status)).map(({ id }) => id)
    if (ids.length === 0) return toast(say('noneMatches', say(`action_${action}`)))
    return changeChosen(
      action,
      ids,
      () => undefined,
      async () => done(),
    )
  }
  return (
    <span class="matching" role="group" aria-label={label}>
      <span class="dim">{label}</span>
      {ACTIONS.filter((action) => status === '' || FITS[action](status)).map((action) => (
        <button key={action} type="button" class="plain small" onClick={() => void change(action)}>
          {say(`action_${action}`)}…
        </button>
      ))}
    </span>
  )
}

interface Counted {
  count: number
  more?: boolean
}

/** Asks with the number of tasks that the server counts. `statuses` of the tasks; none: as the filter says. */
export async function changeMatching(
  action: Action,
  filter: Record<string, string>,
  statuses: readonly string[],
  done: () => void,
): Promise<void> {
  const filters = statuses.length === 0 ? [filter] : statuses.map((status) => ({ ...filter, status }))
  const each = (more: object) =>
    Promise.all(filters.map((one) => call<Counted>('POST', `/tasks/${action}`, { ...one, ...more })))
  const sum = (counts: readonly { count: number }[]) => counts.reduce((total, { count }) => total + count, 0)
  try {
    const counted = await each({ dry_run: true })
    const count = `${number(sum(counted))}${counted.some(({ more }) => more) ? '+' : ''}`
    if (sum(counted) === 0) return toast(say('noneMatches', say(`action_${action}`)))
    const named = statuses.length === 0 ? filter : { ...filter, status: statuses.join('/') }
    const terms = Object.entries(named).map(termOf)
    const question = {
      title: say(`ask_${action}`, count),
      detail: `${say('matching', terms.length === 0 ? say('everyTask') : terms.join(', '))} ${say(`effect_${action}`)}`,
      action: say(`action_${action}`),
      isDanger: action !== 'retry',
    }
    await confirmedRun(question, async () => {
      const changed = await each({})
      if (action === 'purge') forget()
      done()
      return say(`done_${action}`, number(sum(changed)))
    })
  } catch (error) {
    toast((error as Error).message, true)
  }
}

function termOf([name, value]: [string, string]): string {
  if (name === 'created_after') return `${say('times_from')} ${momentOf(Date.parse(value))}`
  if (name === 'created_before') return `${say('times_until')} ${momentOf(Date.parse(value))}`
  return name.startsWith('error') ? `error “${value}”` : `${name} ${value}`
}
