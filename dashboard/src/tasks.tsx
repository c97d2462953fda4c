import { useState } from 'preact/hooks'
import { STATUSES } from './api.ts'
import { ErrorGroups } from './error-groups.tsx'
import { BatchLink } from './flow.tsx'
import { useLive } from './live.ts'
import { MatchingActions } from './task-actions.tsx'
import { TaskList } from './task-list.tsx'
import { addressOf, lineOf, parseLine, RANGES_MS, type Search, searchOf } from './task-search.ts'
import { number, say, type Word } from './words.ts'

const SUGGESTED_MAX = 100

/** The tasks that fit a search, newest first, changing as they do; or their errors by what they have in common. */
export function TasksView({ query }: { query: URLSearchParams }) {
  const search = searchOf(query)
  const view = query.get('view') ?? ''
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
      {view === 'errors' ? (
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
    const { id, ...parsed } = parseLine(line, names)
    const { status, range } = search
    location.hash = id === '' ? addressOf({ ...parsed, status, range }, view) : `#/tasks/${id}`
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
      <select
        value={search.range}
        aria-label={say('age')}
        onChange={({ currentTarget }) => {
          location.hash = addressOf({ ...search, range: currentTarget.value }, view)
        }}
      >
        <option value="">{say('anyAge')}</option>
        {Object.keys(RANGES_MS).map((range) => (
          <option key={range} value={range}>
            {say('lastRange', say(`range_${range}` as Word))}
          </option>
        ))}
      </select>
      <button type="submit">{say('search')}</button>
    </form>
  )
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
        href={addressOf({ ...search, status: '', error: '' }, 'errors')}
        aria-current={view === 'errors' ? 'page' : undefined}
      >
        {say('byError')}
      </a>
    </nav>
  )
}
