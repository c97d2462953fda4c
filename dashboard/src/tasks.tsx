import { useState } from 'preact/hooks'
import { STATUSES } from './api.ts'
import { ErrorGroups } from './error-groups.tsx'
import { BatchLink } from './flow.tsx'
import { useLive } from './live.ts'
import { ErrorLine } from './parts.tsx'
import { MatchingActions } from './task-actions.tsx'
import { TaskList } from './task-list.tsx'
import { addressOf, lineOf, parseLine, RANGES_MS, type Search, searchOf, unreadableOf } from './task-search.ts'
import { number, say, type Word } from './words.ts'

const SUGGESTED_MAX = 100

/** The tasks that fit a search, newest first, changing as they do; or their errors by what they have in common. */
export function TasksView({ query }: { query: URLSearchParams }) {
  const unreadable = unreadableOf(query)
  const readable = new URLSearchParams(query)
  for (const [name] of unreadable) readable.delete(name)
  const search = searchOf(readable)
  const view = readable.get('view') ?? ''
  const [version, setVersion] = useState(0)
  const key = `${JSON.stringify(search)}${version}`
  return (
    <>
      <div class="tasks-head">
        <h1>{say('tasks')}</h1>
        <SearchForm key={key} search={search} view={view} />
      </div>
      <Statuses search={search} view={view} />
      {search.batch !== '' && (
        <p class="count">
          {say('batch')} <BatchLink batch={search.batch} />
        </p>
      )}
      {unreadable.length > 0 ? (
        <ErrorLine error={say('unreadable', unreadable.map((part) => part.join('=')).join(', '))} />
      ) : view === 'errors' ? (
        <ErrorGroups search={search} />
      ) : (
        <TaskList
          key={key}
          search={search}
          actions={(rows) => <MatchingActions search={search} rows={rows} done={() => setVersion(version + 1)} />}
        />
      )}
    </>
  )
}

function SearchForm({ search, view }: { search: Search; view: string }) {
  const { types } = useLive()
  const [line, setLine] = useState(lineOf(search))
  const names = types.map(({ type }) => type)
  const submit = (event: Event) => {
    event.preventDefault()
    const { whole, ...parsed } = parseLine(line, names)
    const { range, after, before } = search
    const status = parsed.status || search.status
    const kept = { status, range, after, before }
    location.hash = whole === '' ? addressOf({ ...parsed, ...kept }, parsed.status ? '' : view) : `#/tasks/${whole}`
  }
  return (
    <form class="search-form" role="search" onSubmit={submit}>
      <input
        type="search"
        list="searches"
        value={line}
        spellcheck={false}
        autocomplete="off"
        placeholder={say('searchHint')}
        aria-label={say('search')}
        onInput={(event) => setLine(event.currentTarget.value)}
        onSearch={(event) => event.currentTarget.value === '' && submit(event)}
      />
      <datalist id="searches">
        {names.slice(0, SUGGESTED_MAX).map((type) => (
          <option key={type} value={`type:${type}`} />
        ))}
      </datalist>
      <Times search={search} view={view} />
      <button type="submit">{say('search')}</button>
    </form>
  )
}

const BETWEEN = 'between'
const DAY_MS = 86_400_000

/** One of the last ranges, or two times. */
function Times({ search, view }: { search: Search; view: string }) {
  const isBetween = search.after !== '' || search.before !== ''
  const change = (times: Partial<Search>) => {
    location.hash = addressOf({ ...search, ...times }, view)
  }
  const choose = (range: string) => {
    const after = range === BETWEEN ? new Date(Date.now() - DAY_MS).toISOString() : ''
    change({ range: range === BETWEEN ? '' : range, after, before: '' })
  }
  return (
    <>
      <select
        value={isBetween ? BETWEEN : search.range}
        aria-label={say('age')}
        onChange={({ currentTarget }) => choose(currentTarget.value)}
      >
        <option value="">{say('anyAge')}</option>
        {Object.keys(RANGES_MS).map((range) => (
          <option key={range} value={range}>
            {say('lastRange', say(`range_${range}` as Word))}
          </option>
        ))}
        <option value={BETWEEN}>{say('between')}</option>
      </select>
      {isBetween &&
        (['after', 'before'] as const).map((field) => (
          <input
            key={field}
            class="time"
            type="datetime-local"
            aria-label={say(field === 'after' ? 'times_from' : 'times_until')}
            title={say(field === 'after' ? 'times_from' : 'times_until')}
            value={localTime(search[field])}
            onChange={({ currentTarget }) => {
              const at = new Date(currentTarget.value)
              change({ [field]: currentTarget.value === '' ? '' : at.toISOString() })
            }}
          />
        ))}
    </>
  )
}

/** As an input of the browser has it: in the time zone of the user, without a zone. */
function localTime(time: string): string {
  const at = Date.parse(time)
  if (Number.isNaN(at)) return ''
  return new Date(at - new Date(at).getTimezoneOffset() * 60_000).toISOString().slice(0, 16)
}

/** Each with its number where that is known: of all tasks, and of a type the waiting and running ones. */
function Statuses({ search, view }: { search: Search; view: string }) {
  const { stats } = useLive()
  const { status: present, ...others } = search
  const isAll = stats !== null && Object.values(others).every((value) => value === '')
  return (
    <nav class="statuses" aria-label={say('status')}>
      {['', ...STATUSES].map((status) => (
        <a
          key={status}
          href={addressOf({ ...search, status })}
          class={`chip ${status}`}
          aria-current={present === status && view === '' ? 'page' : undefined}
        >
          {say((status === '' ? 'all' : status) as Word)}
          {isAll && status !== '' && <small>{number(stats[`${status}_tasks` as 'failed_tasks'])}</small>}
        </a>
      ))}
      <a
        class="chip errors"
        href={addressOf({ ...search, status: '', id: '', pattern: '' }, 'errors')}
        aria-current={view === 'errors' ? 'page' : undefined}
      >
        {say('byError')}
      </a>
    </nav>
  )
}
