import { urlOf } from './api.ts'
import 'uplot/dist/uPlot.min.css'
import './style.css'
import { render } from 'preact'
import { useEffect, useState } from 'preact/hooks'
import { BatchView } from './batch.tsx'
import { Feedback } from './feedback.tsx'
import { Keyboard } from './keyboard.tsx'
import { LimitsView } from './limits.tsx'
import { start, useLive } from './live.ts'
import { LoggedIn, LoginView } from './login.tsx'
import { OverviewView } from './overview.tsx'
import { Missing, usePageTitle } from './parts.tsx'
import { SchedulesView } from './schedules.tsx'
import { may, type Scope, session } from './session.ts'
import { SubmitView } from './submit.tsx'
import { TaskView } from './task.tsx'
import { TasksView } from './tasks.tsx'
import { TypeView } from './type.tsx'
import { momentOf, say, switchLanguage, useLanguage, type Word } from './words.ts'
import { WorkersView, WorkerView } from './workers.tsx'

/** What each view needs. */
const VIEWS = {
  overview: 'read',
  tasks: 'read',
  workers: 'read',
  limits: 'read',
  schedules: 'read',
  submit: 'submit',
  batch: 'read',
  types: 'read',
} as const
/** Views that are reached from others, with the tab that is marked for them. */
const WITHIN: Record<string, keyof typeof VIEWS> = { batch: 'tasks', types: 'overview' }
const TABS = (Object.keys(VIEWS) as (keyof typeof VIEWS)[]).filter((view) => !(view in WITHIN) && may(VIEWS[view]))
const isLoggedOut = session.access_control && session.name === null
const THEMES = ['auto', 'light', 'dark'] as const
const STORED_THEME = 'xqueue.theme'

/** The place is in the fragment: `#/tasks/<id>`, `#/tasks?type=email`. */
function usePlace(): { view: string; id: string; query: URLSearchParams } {
  const [hash, setHash] = useState(location.hash)
  useEffect(() => {
    const onChange = () => setHash(location.hash)
    addEventListener('hashchange', onChange)
    return () => removeEventListener('hashchange', onChange)
  }, [])
  const [path = '', query] = hash.slice(2).split('?')
  const [view = '', id = ''] = path.split('/')
  return { view: view || (TABS[0] ?? ''), id: decodeURIComponent(id), query: new URLSearchParams(query) }
}

function useTheme(): [string, () => void] {
  const [theme, setTheme] = useState(localStorage.getItem(STORED_THEME) ?? 'auto')
  const [dark, setDark] = useState(matchMedia('(prefers-color-scheme: dark)').matches)
  useEffect(() => {
    const query = matchMedia('(prefers-color-scheme: dark)')
    const onChange = () => setDark(query.matches)
    query.addEventListener('change', onChange)
    return () => query.removeEventListener('change', onChange)
  }, [])
  document.documentElement.dataset.theme = theme === 'auto' ? (dark ? 'dark' : 'light') : theme
  const next = () => {
    const following = THEMES[(THEMES.indexOf(theme as 'auto') + 1) % THEMES.length]!
    localStorage.setItem(STORED_THEME, following)
    setTheme(following)
  }
  return [theme, next]
}

function Connection() {
  const { connection } = useLive()
  return (
    <span class={`connection ${connection}`} role="status">
      {say(connection)}
    </span>
  )
}

/** What the page shows may be old while the server does not answer. */
function Away() {
  const { connection, heardAt } = useLive()
  if (connection !== 'away' || heardAt === 0) return null
  return (
    <p class="refused away-note" role="alert">
      {say('awaySince', momentOf(heardAt))}
    </p>
  )
}

function App() {
  useLanguage()
  const [theme, nextTheme] = useTheme()
  const { view, id, query } = usePlace()
  const shownTab = WITHIN[view] ?? view
  // Views of one thing name it.
  usePageTitle(id === '' && view in VIEWS ? say(view as keyof typeof VIEWS) : null)
  const shown = document.documentElement.dataset.theme ?? 'light'
  useEffect(() => {
    document.querySelector('header nav [aria-current]')?.scrollIntoView({ inline: 'center', block: 'nearest' })
  }, [shownTab])
  return (
    <>
      <button type="button" class="skip" onClick={() => document.getElementById('main')?.focus()}>
        {say('skip')}
      </button>
      <header>
        <a class="brand" href="#/">
          <img src={urlOf('icon.svg')} alt="" width="24" height="24" /> XQueue
        </a>
        <div class="tools">
          {may('read') && <Connection />}
          <LoggedIn />
          <a href={urlOf('docs')}>{say('api')}</a>
          <button
            type="button"
            class="icon theme"
            onClick={nextTheme}
            title={say('theme', say(theme as Word))}
            aria-label={say('theme', say(theme as Word))}
          >
            <svg viewBox="0 0 16 16" width="16" height="16" aria-hidden="true">
              <circle cx="8" cy="8" r="5.5" />
              <path class={`theme-${theme}`} d="M8 2.5a5.5 5.5 0 0 1 0 11z" />
            </svg>
          </button>
          <button type="button" class="plain" onClick={switchLanguage} title={say('languageTitle')}>
            {say('language')}
          </button>
        </div>
        <nav aria-label={say('views')}>
          {TABS.map((tab) => (
            <a key={tab} href={`#/${tab}`} aria-current={shownTab === tab ? 'page' : undefined}>
              {say(tab)}
            </a>
          ))}
        </nav>
      </header>
      <main id="main" tabIndex={-1}>
        <Away />
        <View view={view} id={id} query={query} theme={shown} />
      </main>
      <Feedback />
      <Keyboard />
    </>
  )
}

function View({ view, id, query, theme }: { view: string; id: string; query: URLSearchParams; theme: string }) {
  if (isLoggedOut) return <LoginView />
  const needed: Scope | undefined = VIEWS[view as keyof typeof VIEWS]
  if (TABS.length === 0 || (needed && !may(needed))) return <p class="empty">{say('notAllowed')}</p>
  switch (view) {
    case 'tasks':
      return id === '' ? <TasksView query={query} /> : <TaskView key={id} id={id} />
    case 'types':
      return <TypeView key={id} type={id} theme={theme} />
    case 'batch':
      return <BatchView key={id} name={id} />
    case 'workers':
      return id === '' ? <WorkersView /> : <WorkerView key={id} id={id} />
    case 'limits':
      return <LimitsView />
    case 'schedules':
      return <SchedulesView />
    case 'submit':
      return <SubmitView key={query.toString()} query={query} />
    case 'overview':
      return <OverviewView theme={theme} query={query} />
    default:
      return <Missing says={say('noPage')} id={view} link="#/" to={say('overview')} />
  }
}

if (may('read')) start()
render(<App />, document.getElementById('app')!)
