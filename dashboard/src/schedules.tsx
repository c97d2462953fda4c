import { useEffect, useState } from 'preact/hooks'
import { call, get, type Schedule } from './api.ts'
import { useEachSecond, useLive } from './live.ts'
import { ErrorLine, Panel, useAction } from './parts.tsx'
import { may } from './session.ts'
import { day, duration, say } from './words.ts'

/** So long after the last key the server is asked for the times of what is written. */
const PREVIEW_AFTER_MS = 300

/** What makes tasks again and again: when it did last, when it will next, and a form for another one. */
export function SchedulesView() {
  const [schedules, setSchedules] = useState<Schedule[] | null>(null)
  const read = async () => setSchedules((await get<{ schedules: Schedule[] }>('/schedules')).schedules)
  useEachSecond(read, [])
  return (
    <>
      <h1>{say('schedules')}</h1>
      {may('admin') && <Add added={read} />}
      {schedules?.length === 0 && <p class="empty">{say('noSchedules')}</p>}
      {schedules?.map((schedule) => (
        <Row key={schedule.id} schedule={schedule} changed={read} />
      ))}
    </>
  )
}

function Row({ schedule, changed }: { schedule: Schedule; changed: () => Promise<void> }) {
  const { id, type, paused, next_at, last_at, last_task_id } = schedule
  const [run, error] = useAction()
  const act = (method: 'POST' | 'PATCH' | 'DELETE', path = '', body?: object) =>
    run(async () => {
      await call(method, `/schedules/${encodeURIComponent(id)}${path}`, body)
      await changed()
    })
  return (
    <Panel title={id} aside={<Timing schedule={schedule} />}>
      <div class="limit">
        <span class="used">
          <span class="badge">{type}</span>
          <span>
            {say('next')}:{' '}
            {next_at === null || paused ? say('never') : `${say('in', until(next_at))} (${day(next_at)})`}
          </span>
          <span class="dim">
            {say('last')}: {last_at === null ? say('never') : day(last_at)}{' '}
            {last_task_id && <a href={`#/tasks/${last_task_id}`}>{say('task')}</a>}
          </span>
        </span>
        {may('admin') && (
          <form onSubmit={(event) => event.preventDefault()}>
            <button type="button" onClick={() => act('POST', '/run')}>
              {say('runNow')}
            </button>
            <button type="button" class="plain" onClick={() => act('PATCH', '', { paused: !paused })}>
              {say(paused ? 'resume' : 'pause')}
            </button>
            <button type="button" class="plain" onClick={() => act('DELETE')}>
              {say('drop')}
            </button>
          </form>
        )}
      </div>
      <ErrorLine error={error} />
    </Panel>
  )
}

function Timing({ schedule: { cron, timezone, every, paused } }: { schedule: Schedule }) {
  return (
    <span class="terms">
      {paused && <span class="badge paused">{say('paused')}</span>}
      {every === null ? (
        <span>
          <code>{cron}</code> {timezone}
        </span>
      ) : (
        <span>{say('each', duration(every))}</span>
      )}
    </span>
  )
}

/** A form with a preview of the next ticks from the server. */
function Add({ added }: { added: () => Promise<void> }) {
  const { types } = useLive()
  const [id, setId] = useState('')
  const [type, setType] = useState('')
  const [payload, setPayload] = useState('{}')
  const [isCron, setIsCron] = useState(true)
  const [cron, setCron] = useState('0 9 * * MON-FRI')
  const [timezone, setTimezone] = useState(Intl.DateTimeFormat().resolvedOptions().timeZone)
  const [every, setEvery] = useState('15m')
  const [run, error] = useAction()
  const timing = isCron ? { cron, timezone } : { every }
  const submit = (event: Event) => {
    event.preventDefault()
    run(async () => {
      await call('POST', '/schedules', { id, type, payload: JSON.parse(payload), ...timing })
      setId('')
      await added()
    })
  }
  return (
    <details class="add">
      <summary>{say('addSchedule')}</summary>
      <Panel>
        <form onSubmit={submit} class="schedule">
          <Field label={say('name')} value={id} set={setId} />
          <label>
            {say('type')}
            <select value={type} required onChange={(event) => setType(event.currentTarget.value)}>
              <option value="">{say('chooseType')}</option>
              {types.map((info) => (
                <option key={info.type}>{info.type}</option>
              ))}
            </select>
          </label>
          <label>
            {say('times')}
            <select
              value={isCron ? 'cron' : 'every'}
              onChange={(event) => setIsCron(event.currentTarget.value === 'cron')}
            >
              <option value="cron">{say('cron')}</option>
              <option value="every">{say('interval')}</option>
            </select>
          </label>
          {isCron && <Field label={say('cron')} value={cron} set={setCron} />}
          {isCron && <Field label={say('timezone')} value={timezone} set={setTimezone} />}
          {!isCron && <Field label={say('interval')} value={every} set={setEvery} />}
          <Field label={say('payload')} value={payload} set={setPayload} />
          <Upcoming timing={timing} />
          <ErrorLine error={error} />
          <button type="submit">{say('add')}</button>
        </form>
      </Panel>
    </details>
  )
}

function Field({ label, value, set }: { label: string; value: string; set: (value: string) => void }) {
  return (
    <label>
      {label}
      <input value={value} required onInput={(event) => set(event.currentTarget.value)} />
    </label>
  )
}

/** The next ticks, or the error of the input. */
function Upcoming({ timing }: { timing: object }) {
  const [told, setTold] = useState('')
  const asked = JSON.stringify(timing)
  useEffect(() => {
    let isNewest = true
    const timer = setTimeout(async () => {
      const text = await call<{ upcoming: string[] }>('POST', '/schedules/preview', timing).then(
        ({ upcoming }) => say('upcoming', upcoming.map(day).join(' · ')),
        (refused: Error) => refused.message,
      )
      if (isNewest) setTold(text)
    }, PREVIEW_AFTER_MS)
    return () => {
      isNewest = false
      clearTimeout(timer)
    }
  }, [asked])
  return (
    <p class="preview" role="status">
      {told}
    </p>
  )
}

function until(iso: string): string {
  return duration(Math.max(0, (Date.parse(iso) - Date.now()) / 1_000))
}
