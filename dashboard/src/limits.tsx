import { useState } from 'preact/hooks'
import { call, get, type Holder, type TypeInfo } from './api.ts'
import { useEachSecond, useLive } from './live.ts'
import { ErrorLine, Meter, Panel, useAction } from './parts.tsx'
import { may } from './session.ts'
import { duration, number, say, time } from './words.ts'

/** Each type's limit: what it is, what another would do, and who holds the permits. */
export function LimitsView() {
  const { stats, types } = useLive()
  return (
    <>
      <h1>{say('limits')}</h1>
      {stats && types.length === 0 && <p class="empty">{say('noTypes')}</p>}
      {types.map((type) => (
        <Limit key={type.type} info={type} />
      ))}
    </>
  )
}

function Limit({ info }: { info: TypeInfo }) {
  const { type, processing, max_concurrency: limit, paused, held_until } = info
  const isStopped = paused || held_until !== null
  const [wanted, setWanted] = useState<string | null>(null)
  const [run, error] = useAction()
  const text = wanted ?? (limit === null ? '' : String(limit))
  const next = text === '' ? null : Number(text)
  const set = (max: number | null) =>
    run(async () => {
      await call('POST', '/concurrency', { task_type: type, max_concurrency: max })
      setWanted(null)
    })
  const submit = (event: Event) => {
    event.preventDefault()
    set(next)
  }
  const used = limit === null ? number(processing) : say('of', number(processing), number(limit))
  return (
    <Panel title={type} aside={<Terms info={info} />}>
      <div class="limit">
        <span class="used">
          <Meter value={processing} max={limit} label={`${type}: ${say('permits')}`} />
          {used} {say('inUse')}
          {limit === null && <span class="dim">{say('noLimit')}</span>}
        </span>
        {may('admin') && (
          <form onSubmit={submit}>
            <label>
              {say('limit')}
              <input
                type="number"
                min="1"
                max="1000000"
                value={text}
                placeholder={say('noLimit')}
                aria-label={`${say('limit')}: ${type}`}
                onInput={(event) => setWanted(event.currentTarget.value)}
              />
            </label>
            <button type="submit" disabled={next === limit}>
              {say('set')}
            </button>
            <button type="button" class="plain" disabled={limit === null} onClick={() => set(null)}>
              {say('remove')}
            </button>
            <button
              type="button"
              class="plain"
              onClick={() =>
                run(() => call('POST', `/types/${encodeURIComponent(type)}/${isStopped ? 'resume' : 'pause'}`))
              }
            >
              {say(isStopped ? 'resume' : 'pause')}
            </button>
          </form>
        )}
      </div>
      <p class="preview" role="status">
        {preview(info, next)}
      </p>
      <ErrorLine error={error} />
      <Holders type={type} processing={processing} />
    </Panel>
  )
}

/** What else holds its tasks back, and how many wait. */
function Terms({ info: { pending, group_concurrency: ofGroup, rate, paused, held_until } }: { info: TypeInfo }) {
  return (
    <span class="terms">
      {paused && <span class="badge paused">{say('paused')}</span>}
      {held_until && <span class="badge paused">{say('heldUntil', time(held_until))}</span>}
      {ofGroup !== null && <span>{say('eachGroup', number(ofGroup))}</span>}
      {rate && <span>{say('rateOf', number(rate.max), duration(rate.per))}</span>}
      <span>
        {number(pending)} {say('pending')}
      </span>
    </span>
  )
}

/** What a limit would do, before it is set. */
function preview(info: TypeInfo, next: number | null): string {
  const { max_concurrency: limit, processing, pending, delayed, dependent } = info
  if (next === limit) return ''
  if (next === null) return say('previewFree')
  if (limit === null || next < limit) return say('previewLess', next)
  const starts = Math.min(next - Math.max(processing, 0), pending - delayed - dependent)
  return starts > 0 ? say('previewMore', starts) : say('previewNone')
}

function Holders({ type, processing }: { type: string; processing: number }) {
  const [shown, setShown] = useState(false)
  const [holders, setHolders] = useState<Holder[]>([])
  useEachSecond(async () => {
    if (!shown) return
    const { holders: told } = await get<{ holders: Holder[] }>(`/concurrency/${encodeURIComponent(type)}`)
    setHolders(told)
  }, [shown])
  return (
    <details open={shown} onToggle={(event) => setShown(event.currentTarget.open)}>
      <summary>
        {say('holders')} ({number(processing)})
      </summary>
      {shown && holders.length === 0 && <p class="dim">{say('noHolders')}</p>}
      <ul class="runs">
        {holders.map(({ task_id, worker_id, since, lease_expires_at }) => (
          <li key={task_id}>
            <a href={`#/tasks/${task_id}`}>{task_id}</a>
            <span>{worker_id}</span>
            <span class="dim">
              {time(since)} · {say('expires', time(lease_expires_at))}
            </span>
          </li>
        ))}
      </ul>
    </details>
  )
}
