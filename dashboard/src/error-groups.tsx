import { useEffect, useState } from 'preact/hooks'
import { patternOf } from '../../src/task/error-pattern.ts'
import { get, type Task } from './api.ts'
import { age, TaskLink } from './ids.tsx'
import { useLive } from './live.ts'
import { ErrorLine, Loading, Panel, useAction } from './parts.tsx'
import { may } from './session.ts'
import { type Action, changeChosen, changeMatching } from './task-actions.tsx'
import { addressOf, EMPTY, filterOf, type Search } from './task-search.ts'
import { momentOf, number, say } from './words.ts'

/** The newest tasks of each status are read. A page of large tasks is short. */
const PAGES_MAX = 3
const EXAMINED_PAGES_MAX = 10
const PAGE = 1_000
const AGAIN_MS = 10_000
const GROUPS_MAX = 100
const GROUPED = ['failed', 'timeout']

interface Group {
  pattern: string
  types: Set<string>
  ids: string[]
  /** The newest one. */
  example: string
  at: number
}

interface Read {
  /** The search that found it. */
  key: string
  groups: Group[]
  count: number
  isAll: boolean
}

/**
 * Failed and timed-out tasks by the first line of their error without numbers and ids, the most frequent first. Rows stay
 * in their places while the page is open, so that nothing moves under the pointer.
 */
export function ErrorGroups({ search, title }: { search: Partial<Search>; title?: string }) {
  const { generation } = useLive()
  const [read, setRead] = useState<Read | null>(null)
  const [run, error] = useAction()
  const key = JSON.stringify(search)
  const reload = async () => {
    const found = { ...(await readGroups({ ...EMPTY, ...search })), key }
    setRead((before) => (before?.key === key ? { ...found, groups: inPlace(before.groups, found.groups) } : found))
  }
  useEffect(() => {
    run(reload)
    const timer = setInterval(() => run(reload), AGAIN_MS)
    return () => clearInterval(timer)
  }, [key, generation])
  if (!read) return <Loading error={error} />
  const { groups, count, isAll } = read
  return (
    <Panel title={title ?? say('byError')}>
      <ErrorLine error={error} />
      <p class="dim">{groups.length === 0 ? say('noErrors') : say(isAll ? 'ofAll' : 'ofNewest', number(count))}</p>
      {groups.length > 0 && (
        <table class="cards errors">
          <thead>
            <tr>
              <th>{say('error')}</th>
              <th class="num">{say('tasks')}</th>
              <th>{say('type')}</th>
              <th>{say('latest')}</th>
              <td />
            </tr>
          </thead>
          <tbody>
            {groups.slice(0, GROUPS_MAX).map((group) => (
              <GroupRow key={group.pattern} group={group} search={search} reload={reload} />
            ))}
          </tbody>
        </table>
      )}
    </Panel>
  )
}

/** The groups of before in their order, without tasks if they have none left, then the new ones. */
function inPlace(before: readonly Group[], found: readonly Group[]): Group[] {
  const now = new Map(found.map((group) => [group.pattern, group]))
  const known = new Set(before.map(({ pattern }) => pattern))
  return [
    ...before.map((group) => now.get(group.pattern) ?? { ...group, ids: [] }),
    ...found.filter(({ pattern }) => !known.has(pattern)),
  ]
}

function GroupRow({ group, search, reload }: { group: Group; search: Partial<Search>; reload: () => Promise<void> }) {
  const { pattern, types, ids, example, at } = group
  const isAll = may('admin') && pattern !== ''
  const change = (action: Action) => {
    if (!isAll) return changeChosen(action, ids, () => undefined, reload)
    const filter = filterOf({ ...EMPTY, ...search, pattern, status: '' })
    return changeMatching(action, filter, GROUPED, () => void reload().catch(() => undefined))
  }
  return (
    <tr>
      <th scope="row">{pattern === '' ? '–' : <a href={addressOf({ ...search, pattern })}>{pattern}</a>}</th>
      <td class="num" data-label={say('tasks')}>
        {number(ids.length)}
      </td>
      <td data-label={say('type')}>
        {[...types].slice(0, 3).join(', ')}
        {types.size > 3 && ` ${say('andMore', types.size - 3)}`}
      </td>
      <td data-label={say('latest')}>
        <TaskLink id={example} />{' '}
        <span class="dim nowrap" title={momentOf(at)}>
          {say('ago', age(at))}
        </span>
      </td>
      <td class="num">
        {may('submit') &&
          (['retry', 'purge'] as const).map((action) => (
            <button
              key={action}
              type="button"
              class="plain small"
              disabled={ids.length === 0}
              onClick={() => void change(action)}
            >
              {say(`action_${action}`)}…
            </button>
          ))}
      </td>
    </tr>
  )
}

async function readGroups(search: Search): Promise<Omit<Read, 'key'>> {
  const groups = new Map<string, Group>()
  const parts = await Promise.all(GROUPED.map((status) => readTasks({ ...search, status })))
  const tasks = parts.flatMap((part) => part.tasks)
  for (const { id, type, error, completed_at } of tasks) {
    const pattern = patternOf(error ?? '')
    const at = Date.parse(completed_at!)
    const group = groups.get(pattern) ?? { pattern, types: new Set(), ids: [], example: id, at }
    group.types.add(type)
    group.ids.push(id)
    if (at > group.at) Object.assign(group, { example: id, at })
    groups.set(pattern, group)
  }
  const ordered = [...groups.values()].sort((a, b) => b.ids.length - a.ids.length || b.at - a.at)
  return { groups: ordered, count: tasks.length, isAll: parts.every((part) => part.isAll) }
}

async function readTasks(search: Search): Promise<{ tasks: Task[]; isAll: boolean }> {
  const filter = Object.entries(filterOf(search))
  const tasks: Task[] = []
  let cursor: string | null = ''
  // A page without tasks has examined as many as a page may.
  for (let [full, pages] = [0, 0]; cursor !== null && full < PAGES_MAX && pages < EXAMINED_PAGES_MAX; pages += 1) {
    const parameters = new URLSearchParams([
      ...filter,
      ['limit', String(PAGE)],
      ...(cursor ? [['cursor', cursor]] : []),
    ])
    const page: { tasks: Task[]; next_cursor: string | null } = await get(`/tasks?${parameters}`)
    tasks.push(...page.tasks)
    if (page.tasks.length > 0) full += 1
    cursor = page.next_cursor
  }
  return { tasks, isAll: cursor === null }
}
