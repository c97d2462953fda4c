import { useState } from 'preact/hooks'
import { get, type Health, STATUSES, type TypeInfo } from './api.ts'
import { HistoryCharts, RangeSwitch, useRange } from './history.tsx'
import { type Point, useEachSecond, useLive } from './live.ts'
import { ChartPanel, Meter, Panel, SPARKLINE_POINTS, Sparkline, Times } from './parts.tsx'
import { duration, number, say, time, type Word } from './words.ts'

/** How the whole is: totals, charts, each type, the engine and the broker. */
export function OverviewView({ theme }: { theme: string }) {
  const { stats, types, history } = useLive()
  const [range, select] = useRange()
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
                  {number(stats.dependent_tasks)} {say('dependent')}
                </small>
              )}
            </a>
          </li>
        ))}
      </ul>
      <RangeSwitch range={range} select={select} />
      {range !== 'live' && <HistoryCharts range={range} theme={theme} />}
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
      <Panel title={say('types')}>
        {stats && types.length === 0 && <p class="dim">{say('noTypes')}</p>}
        {types.length > 0 && <Types types={types} history={history} />}
      </Panel>
      <System />
    </>
  )
}

function Types({ types, history }: { types: TypeInfo[]; history: Point[] }) {
  return (
    <table class="cards">
      <thead>
        <tr>
          <th>{say('type')}</th>
          <th class="num">{say('waiting')}</th>
          <th class="wide">{say('running')}</th>
          <th class="num">{say('perSecond')}</th>
          <th>{say('wait')}</th>
          <th>{say('run')}</th>
          <th class="num" title={say('errorsTitle')}>
            {say('errors')}
          </th>
          <th>{say('trend')}</th>
          <th class="num">{say('workers')}</th>
        </tr>
      </thead>
      <tbody>
        {types.map((type) => (
          <TypeRow key={type.type} type={type} history={history} />
        ))}
      </tbody>
    </table>
  )
}

function TypeRow({ type: info, history }: { type: TypeInfo; history: Point[] }) {
  const { type, pending, processing, max_concurrency: limit, paused, held_until, throughput, wait, run, workers } = info
  const failed = history.reduce((sum, point) => sum + (point.types.get(type)?.failed ?? 0), 0)
  const trend = history.slice(-SPARKLINE_POINTS).map((point) => point.types.get(type)?.finished ?? 0)
  const running = limit === null ? number(processing) : say('of', number(processing), number(limit))
  return (
    <tr>
      <th scope="row">
        <a href={`#/tasks?type=${encodeURIComponent(type)}`}>{type}</a>
        {paused && <span class="badge paused">{say('paused')}</span>}
        {held_until && <span class="badge paused">{say('heldUntil', time(held_until))}</span>}
      </th>
      <td class="num" data-label={say('waiting')}>
        {number(pending)}
      </td>
      <td data-label={say('running')}>
        <span class="used">
          <Meter value={processing} max={limit} label={`${type}: ${say('running')}`} />
          <span class="nowrap">{running}</span>
        </span>
      </td>
      <td class="num" data-label={say('perSecond')}>
        {number(throughput, 1)}
      </td>
      <td data-label={say('wait')}>
        <Times of={wait} />
      </td>
      <td data-label={say('run')}>
        <Times of={run} />
      </td>
      <td class={`num ${failed > 0 ? 'bad' : ''}`} data-label={say('errors')}>
        {number(failed)}
      </td>
      <td data-label={say('trend')}>
        <Sparkline values={trend} label={`${type}: ${say('perSecond')}`} />
      </td>
      <td class="num" data-label={say('workers')}>
        {workers}
      </td>
    </tr>
  )
}

function System() {
  const [health, setHealth] = useState<Health | null>(null)
  useEachSecond(async () => setHealth(await get<Health>('/health')), [])
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
