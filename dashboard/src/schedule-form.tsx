import { useEffect, useState } from 'preact/hooks'
import { call, type Schedule } from './api.ts'
import { toast } from './feedback.tsx'
import { useLive } from './live.ts'
import { ErrorLine, useAction } from './parts.tsx'
import { type Draft, PayloadEditor, payloadOf, useSchemas } from './payload-editor.tsx'
import { durationInput, inZone, say, zone } from './words.ts'

/** So long after the last key the server is asked for the times of what is written. */
const PREVIEW_AFTER_MS = 300

interface Props {
  /** The schedule to change; without one, another is added. */
  schedule?: Schedule
  done: () => Promise<void>
  close: () => void
}

/** A schedule with a preview of its next ticks from the server. */
export function ScheduleForm({ schedule, done, close }: Props) {
  const { types } = useLive()
  const schemas = useSchemas()
  const [id, setId] = useState(schedule?.id ?? '')
  const [type, setType] = useState(schedule?.type ?? '')
  const [draft, setDraft] = useState<Draft>({ value: schedule?.payload ?? {} })
  const [isCron, setIsCron] = useState(schedule ? schedule.every === null : true)
  const [cron, setCron] = useState(schedule?.cron ?? '0 9 * * MON-FRI')
  const [timezone, setTimezone] = useState(schedule?.timezone ?? zone())
  const [every, setEvery] = useState(schedule?.every ? durationInput(schedule.every) : '15m')
  const [run, error] = useAction()
  const timing = isCron ? { cron, timezone } : { every: Number.isNaN(Number(every)) ? every : Number(every) }
  const submit = (event: Event) => {
    event.preventDefault()
    run(async () => {
      const payload = payloadOf(draft)
      if (schedule) await call('PATCH', `/schedules/${encodeURIComponent(schedule.id)}`, { payload, ...timing })
      else await call('POST', '/schedules', { id, type, payload, ...timing })
      toast(say(schedule ? 'scheduleChanged' : 'scheduleAdded', id))
      close()
      await done()
    })
  }
  return (
    <form onSubmit={submit} class="schedule">
      {!schedule && <Field label={say('name')} value={id} set={setId} />}
      {!schedule && (
        <label>
          {say('type')}
          <select
            value={type}
            required
            onChange={(event) => {
              setType(event.currentTarget.value)
              setDraft({ value: {} })
            }}
          >
            <option value="">{say('chooseType')}</option>
            {types.map((info) => (
              <option key={info.type}>{info.type}</option>
            ))}
          </select>
        </label>
      )}
      <label>
        {say('times')}
        <select value={isCron ? 'cron' : 'every'} onChange={(event) => setIsCron(event.currentTarget.value === 'cron')}>
          <option value="cron">{say('cron')}</option>
          <option value="every">{say('interval')}</option>
        </select>
      </label>
      {isCron && <Field label={say('cron')} value={cron} set={setCron} />}
      {isCron && <Field label={say('timezone')} value={timezone} set={setTimezone} list="zones" />}
      {!isCron && <Field label={say('interval')} value={every} set={setEvery} />}
      <datalist id="zones">
        {Intl.supportedValuesOf('timeZone').map((name) => (
          <option key={name} value={name} />
        ))}
      </datalist>
      <Upcoming timing={timing} timezone={isCron ? timezone : null} />
      {type !== '' && schemas && <PayloadEditor key={type} schema={schemas[type]} draft={draft} setDraft={setDraft} />}
      <ErrorLine error={error} />
      <div class="form-actions">
        <button type="submit">{say(schedule ? 'save' : 'add')}</button>
        <button type="button" class="plain" onClick={close}>
          {say('back')}
        </button>
      </div>
    </form>
  )
}

interface FieldProps {
  label: string
  value: string
  set: (value: string) => void
  list?: string
}

function Field({ label, value, set, list }: FieldProps) {
  return (
    <label>
      {label}
      <input
        value={value}
        required
        spellcheck={false}
        {...(list === undefined ? {} : { list })}
        onInput={(event) => set(event.currentTarget.value)}
      />
    </label>
  )
}

/** The next ticks in the time zone of the schedule and in that of the browser, or the error of the input. */
function Upcoming({ timing, timezone }: { timing: object; timezone: string | null }) {
  const [told, setTold] = useState<{ ticks: string[]; zone: string | null } | string>('')
  const asked = JSON.stringify(timing)
  useEffect(() => {
    let isNewest = true
    const timer = setTimeout(async () => {
      const answer = await call<{ upcoming: string[] }>('POST', '/schedules/preview', timing).then(
        ({ upcoming }) => ({ ticks: upcoming, zone: timezone }),
        (refused: Error) => refused.message,
      )
      if (isNewest) setTold(answer)
    }, PREVIEW_AFTER_MS)
    return () => {
      isNewest = false
      clearTimeout(timer)
    }
  }, [asked])
  return (
    <div class="preview" role="status">
      {typeof told === 'string' ? told : <Ticks ticks={told.ticks} timezone={told.zone} />}
    </div>
  )
}

/** With both times where the zones differ. */
export function Ticks({ ticks, timezone }: { ticks: readonly string[]; timezone: string | null }) {
  const isElsewhere = timezone !== null && timezone !== zone()
  return (
    <>
      <b>{say('upcoming')}</b>
      <ul class="ticks">
        {ticks.map((tick) => (
          <li key={tick}>
            {inZone(tick, timezone ?? zone())}
            {isElsewhere && <span class="dim"> {say('here', inZone(tick, zone()))}</span>}
          </li>
        ))}
      </ul>
    </>
  )
}
