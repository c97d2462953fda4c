import { useEffect, useState } from 'preact/hooks'
import { call, get, type Schema, type Task, type TypeInfo } from './api.ts'
import { ErrorGroups } from './error-groups.tsx'
import { confirmedRun } from './feedback.tsx'
import {
  errorsAddress,
  failuresOf,
  HistoryCharts,
  type Range,
  RangeSwitch,
  rangeTitle,
  useHistory,
  useRange,
} from './history.tsx'
import { JsonView } from './json-view.tsx'
import { LimitsTable } from './limits.tsx'
import { useLive } from './live.ts'
import { ErrorLine, Loading, Meter, Missing, Panel, Times, useAction, usePageTitle } from './parts.tsx'
import { may } from './session.ts'
import { addressOf } from './task-search.ts'
import { number, say, time } from './words.ts'

/** Open tasks that are read to count the groups. */
const GROUPS_OF_MAX = 500
const GROUPS_SHOWN = 30
const AGAIN_MS = 5_000

/** One type: its figures over time, limits, groups, errors and the schema of its payload. */
export function TypeView({ type, theme }: { type: string; theme: string }) {
  const { types, stats } = useLive()
  const [selected, select] = useRange()
  const range = selected === 'live' ? '1h' : selected
  const read = useHistory(range, type)
  const info = types.find((each) => each.type === type)
  usePageTitle(type)
  if (!info && !stats) return <Loading />
  if (!info) {
    return <Missing says={say('noType')} id={type} link={addressOf({ type })} />
  }
  return (
    <>
      <div class="title">
        <div class="what">
          <h1>
            {type} {info.paused && <span class="badge paused">{say('paused')}</span>}
            {info.held_until && <span class="badge paused">{say('heldUntil', time(info.held_until))}</span>}
          </h1>
        </div>
        <div class="actions">
          {may('submit') && (
            <a class="button" href={`#/submit?type=${encodeURIComponent(type)}`}>
              {say('submit')}
            </a>
          )}
          <a class="button" href={addressOf({ type })}>
            {say('tasks')}
          </a>
          {may('admin') && <PauseButton info={info} />}
        </div>
      </div>
      <Figures info={info} range={range} failures={failuresOf(read[0])} />
      <RangeSwitch range={range} select={select} without="live" />
      <HistoryCharts read={read} type={type} theme={theme} />
      <ErrorGroups search={{ type, range: '7d' }} title={say('recentErrors')} />
      <Panel title={say('limits')}>
        <LimitsTable types={[info]} />
        <Turns info={info} />
      </Panel>
      <Groups type={type} />
      <PayloadSchema type={type} />
    </>
  )
}

function PauseButton({ info: { type, paused, held_until, processing } }: { info: TypeInfo }) {
  const isStopped = paused || held_until !== null
  const change = isStopped ? 'resume' : 'pause'
  const ask = () => {
    const question = {
      title: say(`ask_${change}_type`, type),
      detail: say(`effect_${change}_type`, number(processing)),
      action: say(change),
    }
    void confirmedRun(question, async () => {
      await call('POST', `/types/${encodeURIComponent(type)}/${change}`)
      return say(`done_${change}_type`, type)
    })
  }
  return (
    <button type="button" class={isStopped ? '' : 'plain'} onClick={ask}>
      {say(change)}
    </button>
  )
}

/** How the groups of the type share it. */
function Turns({ info: { type, group_turns: turns } }: { info: TypeInfo }) {
  const [run, error] = useAction()
  const set = (group_turns: string) => run(() => call('POST', '/concurrency', { task_type: type, group_turns }))
  return (
    <>
      <label class="turns">
        {say('groupTurns')}
        <select value={turns} disabled={!may('admin')} onChange={({ currentTarget }) => set(currentTarget.value)}>
          <option value="tasks">{say('turns_tasks')}</option>
          <option value="time">{say('turns_time')}</option>
        </select>
      </label>
      <ErrorLine error={error} />
    </>
  )
}

interface FiguresProps {
  info: TypeInfo
  range: Range
  /** Tasks that failed in the range; null until known. */
  failures: number | null
}

function Figures({ info, range, failures }: FiguresProps) {
  const { type, pending, delayed, dependent, processing, max_concurrency: limit, throughput, workers, wait, run } = info
  const beside = [
    delayed > 0 && `${number(delayed)} ${say('delayed')}`,
    dependent > 0 && `${number(dependent)} ${say('dependent')}`,
  ].filter(Boolean)
  return (
    <dl class="figures">
      <Figure name={say('pending')} href={addressOf({ type, status: 'pending' })} note={beside.join(', ')}>
        {number(pending)}
      </Figure>
      <Figure name={say('processing')} href={addressOf({ type, status: 'processing' })}>
        {limit === null ? number(processing) : say('of', number(processing), number(limit))}
        {limit !== null && <Meter value={processing} max={limit} label={say('processing')} />}
      </Figure>
      <Figure name={say('failed')} href={errorsAddress(range, type)} note={rangeTitle(range)}>
        <span class={failures ? 'bad' : ''}>{failures === null ? '–' : number(failures)}</span>
      </Figure>
      <Figure name={say('perSecond')}>{number(throughput, 1)}</Figure>
      <Figure name={say('workers')} href="#/workers">
        <span class={workers === 0 ? 'bad' : ''}>{number(workers)}</span>
      </Figure>
      <Figure name={say('wait')} isSmall>
        <Times of={wait} />
      </Figure>
      <Figure name={say('run')} isSmall>
        <Times of={run} />
      </Figure>
    </dl>
  )
}

interface FigureProps {
  name: string
  href?: string
  note?: string
  isSmall?: boolean
  children: preact.ComponentChildren
}

function Figure({ name, href, note = '', isSmall = false, children }: FigureProps) {
  return (
    <div class={`figure ${isSmall ? 'small' : ''}`}>
      <dt>{href ? <a href={href}>{name}</a> : name}</dt>
      <dd>
        {children} {note !== '' && <small>{note}</small>}
      </dd>
    </div>
  )
}

interface GroupCount {
  group: string
  pending: number
  processing: number
}

/** The groups of the tasks that wait or run. The server keeps no list of them, so the first of these tasks are counted. */
function Groups({ type }: { type: string }) {
  const { generation } = useLive()
  const [read, setRead] = useState<{ groups: GroupCount[]; isAll: boolean } | null>(null)
  useEffect(() => {
    const load = () => void readGroups(type).then(setRead, () => undefined)
    load()
    const timer = setInterval(load, AGAIN_MS)
    return () => clearInterval(timer)
  }, [type, generation])
  if (!read || read.groups.length === 0) return null
  return (
    <Panel
      title={say('groups')}
      aside={<span class="dim">{say(read.isAll ? 'openTasks' : 'openTasksFirst', number(GROUPS_OF_MAX))}</span>}
    >
      <table class="cards">
        <thead>
          <tr>
            <th>{say('group')}</th>
            <th class="num">{say('pending')}</th>
            <th class="num">{say('processing')}</th>
          </tr>
        </thead>
        <tbody>
          {read.groups.slice(0, GROUPS_SHOWN).map(({ group, pending, processing }) => (
            <tr key={group}>
              <th scope="row">
                <a href={addressOf({ type, group })}>{group}</a>
              </th>
              <td class="num" data-label={say('pending')}>
                {number(pending)}
              </td>
              <td class="num" data-label={say('processing')}>
                {number(processing)}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      {read.groups.length > GROUPS_SHOWN && (
        <p class="dim">{say('andMore', number(read.groups.length - GROUPS_SHOWN))}</p>
      )}
    </Panel>
  )
}

async function readGroups(type: string): Promise<{ groups: GroupCount[]; isAll: boolean }> {
  const pages = await Promise.all(
    ['processing', 'pending'].map((status) => {
      const search = new URLSearchParams({ type, status, limit: String(GROUPS_OF_MAX) })
      return get<{ tasks: Task[]; next_cursor: string | null }>(`/tasks?${search}`)
    }),
  )
  const groups = new Map<string, GroupCount>()
  for (const { group, status } of pages.flatMap(({ tasks }) => tasks)) {
    if (group === null) continue
    const count = groups.get(group) ?? { group, pending: 0, processing: 0 }
    count[status as 'pending' | 'processing'] += 1
    groups.set(group, count)
  }
  const size = ({ pending, processing }: GroupCount) => pending + processing
  return {
    groups: [...groups.values()].sort((a, b) => size(b) - size(a)),
    isAll: pages.every(({ next_cursor }) => next_cursor === null),
  }
}

/** The stream of statistics leaves schemas out. */
function PayloadSchema({ type }: { type: string }) {
  const { generation } = useLive()
  const [schema, setSchema] = useState<Schema | null>(null)
  useEffect(() => {
    const show = ({ types }: { types: TypeInfo[] }) =>
      setSchema(types.find((each) => each.type === type)?.payload_schema ?? null)
    void get<{ types: TypeInfo[] }>('/types').then(show, () => undefined)
  }, [type, generation])
  if (!schema) return null
  return (
    <Panel title={say('schema')}>
      <JsonView value={schema as never} label={say('schema')} />
    </Panel>
  )
}
