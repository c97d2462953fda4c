import { useState } from 'preact/hooks'
import { get, type Health, STATUSES } from './api.ts'
import { failuresOf, HistoryCharts, RangeSwitch, useHistory, useRange } from './history.tsx'
import { type Point, useEachSecond, useLive } from './live.ts'
import { ChartPanel, ErrorLine, Panel } from './parts.tsx'
import { QueueHealth } from './queue-health.tsx'
import { CONDITIONS, type Condition, TypeTable } from './type-table.tsx'
import { duration, number, say, type Word } from './words.ts'

/** How the whole is: totals, charts, each type, the engine and the broker. */
export function OverviewView({ theme, query }: { theme: string; query: URLSearchParams }) {
  const { stats, types, limits, history } = useLive()
  const [range, select] = useRange()
  const read = useHistory(range)
  const [health, setHealth] = useState<Health | null>(null)
  useEachSecond(async () => setHealth(await get<Health>('/health')), [])
  const asked = query.get('only') ?? ''
  const only = Object.hasOwn(CONDITIONS, asked) ? (asked as Condition) : null
  const heard = history.flatMap(({ types: counted }) => [...counted.values()])
  const failures = range === 'live' ? heard.reduce((sum, { failed }) => sum + failed, 0) : failuresOf(read[0])
  const at = history.map((point) => point.at)
  const values = (of: (point: Point) => number) => history.map(of)
  return (
    <>
      <h1 class="visually-hidden">{say('overview')}</h1>
      <ul class="totals" aria-label={say('totals')}>
        {STATUSES.map((status) => (
          <li key={status}>
            <a href={`#/tasks?status=${status}`} class={`total ${status}`}>
              {say(status)} <strong>{stats ? number(stats[`${status}_tasks`]) : '–'}</strong>
              {status === 'pending' && stats && stats.delayed_tasks > 0 && (
                <small>
                  {number(stats.delayed_tasks)} {say('delayed')}
                </small>
              )}
              {status === 'pending' && stats && stats.dependent_tasks > 0 && (
                <small>
                  {stats.delayed_tasks > 0 && ' · '}
                  {number(stats.dependent_tasks)} {say('dependent')}
                </small>
              )}
            </a>
          </li>
        ))}
      </ul>
      <div class="list-line">
        <RangeSwitch range={range} select={select} />
        <QueueHealth {...{ health, types, limits, range, failures }} />
      </div>
      {range !== 'live' && <HistoryCharts read={read} theme={theme} />}
      {range === 'live' && (
        <div class="columns">
          <ChartPanel
            at={at}
            theme={theme}
            title={say('throughput')}
            lines={[{ label: say('perSecond'), color: 'success', values: values(({ finished }) => finished) }]}
          />
          <ChartPanel
            at={at}
            theme={theme}
            title={say('backlog')}
            lines={[
              { label: say('waiting'), color: 'pending', values: values(({ waiting }) => waiting) },
              { label: say('running'), color: 'processing', values: values(({ running }) => running) },
            ]}
          />
        </div>
      )}
      {only === null && asked !== '' && <ErrorLine error={say('unreadable', `only=${asked}`)} />}
      <TypeTable range={range} only={only} />
      <System health={health} />
    </>
  )
}

function System({ health }: { health: Health | null }) {
  if (!health) return null
  return (
    <Panel title={say('system')}>
      <p>
        <span class={`badge ${health.status}`}>{say(health.status as Word)}</span> XQueue {health.version} ·{' '}
        {say('uptime')} {duration(health.uptime)}
      </p>
      <ul class="checks">
        <li>
          <b>{say('engine')}</b> {health.engine}: {health.durability}
        </li>
        {health.checks.map(({ name, ok, detail }) => (
          <li key={name} class={ok ? '' : 'bad'}>
            <b>
              {ok ? '✓' : '✗'} {name}
            </b>{' '}
            {detail}
          </li>
        ))}
      </ul>
    </Panel>
  )
}
