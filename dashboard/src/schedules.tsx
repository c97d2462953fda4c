import { useState } from 'preact/hooks'
import { call, get, type Schedule } from './api.ts'
import { confirmedRemoval, toast } from './feedback.tsx'
import { JsonView } from './json-view.tsx'
import { useEachSecond } from './live.ts'
import { FilterField } from './order.tsx'
import { Loading, Panel } from './parts.tsx'
import { ScheduleForm, Ticks } from './schedule-form.tsx'
import { may } from './session.ts'
import { typeAddress } from './task-search.ts'
import { duration, inZone, moment, number, say, zone } from './words.ts'

/** More panels than this make the page slow; the filter finds the others. */
const SHOWN_MAX = 100

/** Recurring tasks: their latest and next times, and forms to add and to change them. */
export function SchedulesView() {
  const [schedules, setSchedules] = useState<Schedule[] | null>(null)
  const [filter, setFilter] = useState('')
  const [isAdding, setIsAdding] = useState(false)
  const read = async () => setSchedules((await get<{ schedules: Schedule[] }>('/schedules')).schedules)
  const refusal = useEachSecond(read, [])
  const found = schedules?.filter(({ id, type }) => [id, type].some((text) => text.includes(filter))) ?? []
  return (
    <>
      <div class="title">
        <div class="what">
          <h1>{say('schedules')}</h1>
        </div>
        <div class="actions">
          {schedules && schedules.length > 1 && <FilterField value={filter} set={setFilter} />}
          {may('admin') && !isAdding && (
            <button type="button" onClick={() => setIsAdding(true)}>
              {say('addSchedule')}
            </button>
          )}
        </div>
      </div>
      {isAdding && (
        <Panel title={say('addSchedule')}>
          <ScheduleForm done={read} close={() => setIsAdding(false)} />
        </Panel>
      )}
      {!schedules && <Loading error={refusal} />}
      {schedules?.length === 0 && <p class="empty">{say('noSchedules')}</p>}
      {found.slice(0, SHOWN_MAX).map((schedule) => (
        <Row key={schedule.id} schedule={schedule} changed={read} />
      ))}
      {found.length > SHOWN_MAX && <p class="dim">{say('andMore', number(found.length - SHOWN_MAX))}</p>}
    </>
  )
}

function Row({ schedule, changed }: { schedule: Schedule; changed: () => Promise<void> }) {
  const { id, type, paused, next_at, last_at, last_task_id, timezone, upcoming, payload } = schedule
  const [isEditing, setIsEditing] = useState(false)
  const path = `/schedules/${encodeURIComponent(id)}`
  const act = (done: string, method: 'POST' | 'PATCH', at = '', body?: object) =>
    void call(method, path + at, body)
      .then(changed)
      .then(
        () => toast(done),
        (refused: Error) => toast(refused.message, true),
      )
  const remove = () =>
    confirmedRemoval(id, say('effect_drop'), async () => {
      await call('DELETE', path)
      await changed()
    })
  return (
    <Panel title={id} aside={<Timing schedule={schedule} />}>
      <div class="schedule-row">
        <span>
          <a class="badge" href={typeAddress(type)}>
            {type}
          </a>{' '}
          {say('next')}
          {say('colon')}
          {next_at === null || paused ? (
            say('never')
          ) : (
            <>
              <b>{say('in', until(next_at))}</b>, {inZone(next_at, timezone ?? zone())}
              {timezone !== null && timezone !== zone() && (
                <span class="dim"> {say('here', inZone(next_at, zone()))}</span>
              )}
            </>
          )}
          <br />
          <span class="dim">
            {say('last')}
            {say('colon')}
            {last_at === null ? say('never') : moment(last_at)}{' '}
            {last_task_id && <a href={`#/tasks/${last_task_id}`}>{say('task')}</a>}
          </span>
        </span>
        {may('admin') && (
          <span class="actions">
            <button type="button" class="plain" onClick={() => act(say('scheduleRuns', id), 'POST', '/run')}>
              {say('runNow')}
            </button>
            <button
              type="button"
              class="plain"
              onClick={() =>
                act(say(paused ? 'scheduleResumed' : 'schedulePaused', id), 'PATCH', '', { paused: !paused })
              }
            >
              {say(paused ? 'resume' : 'pause')}
            </button>
            <button type="button" class="plain" aria-expanded={isEditing} onClick={() => setIsEditing(!isEditing)}>
              {say('edit')}
            </button>
            <button type="button" class="plain" onClick={remove}>
              {say('drop')}…
            </button>
          </span>
        )}
      </div>
      {isEditing ? (
        <ScheduleForm schedule={schedule} done={changed} close={() => setIsEditing(false)} />
      ) : (
        <details>
          <summary>{say('more')}</summary>
          <div class="schedule-more">
            <div class="preview">{!paused && <Ticks ticks={upcoming} timezone={timezone} />}</div>
            <JsonView value={payload} label={say('payload')} />
          </div>
        </details>
      )}
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

function until(iso: string): string {
  return duration(Math.max(0, Math.floor((Date.parse(iso) - Date.now()) / 1_000)))
}
