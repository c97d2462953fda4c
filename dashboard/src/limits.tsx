import { useEffect, useRef, useState } from 'preact/hooks'
import { call, get, type Holder, type TypeInfo } from './api.ts'
import { useEachSecond, useLive } from './live.ts'
import { NamedLimits } from './named-limits.tsx'
import { ariaSort, FilterField, type Order, SortButton, useOrder } from './order.tsx'
import { ErrorLine, Loading, Meter, NoTypes, Panel, useAction } from './parts.tsx'
import { may } from './session.ts'
import { typeAddress } from './task-search.ts'
import { durationInput, number, say, time } from './words.ts'

/** More rows than this make the page slow; the filter finds the others. */
const ROWS_MAX = 200

type Column = 'type' | keyof typeof FIGURES
const FIGURES = {
  inUse: ({ processing }: TypeInfo) => processing,
  waiting: ({ pending }: TypeInfo) => pending,
}

/** The limits of each type in a table: their use, their values, which can be changed, and the holders of permits. */
export function LimitsView() {
  const { stats, types } = useLive()
  const [filter, setFilter] = useState('')
  const [order, sort] = useOrder<Column>('type')
  const word = filter.toLowerCase()
  const found = types.filter(({ type }) => type.toLowerCase().includes(word))
  const { by } = order
  if (by !== 'type') found.sort((a, b) => FIGURES[by](a) - FIGURES[by](b))
  if (order.isDown) found.reverse()
  return (
    <>
      <h1>{say('limits')}</h1>
      {!stats && <Loading />}
      {stats && types.length === 0 && <NoTypes />}
      {types.length > 0 && (
        <Panel
          title={say('types')}
          aside={
            <span class="terms">
              <span class="dim">{say('of', number(found.length), number(types.length))}</span>
              <FilterField value={filter} set={setFilter} />
            </span>
          }
        >
          <LimitsTable types={found.slice(0, ROWS_MAX)} order={order} sort={sort} />
          {found.length > ROWS_MAX && <p class="dim">{say('moreTypes', number(found.length - ROWS_MAX))}</p>}
        </Panel>
      )}
      <NamedLimits />
    </>
  )
}

interface TableProps {
  types: readonly TypeInfo[]
  /** Without it, the table cannot be ordered. */
  order?: Order<Column>
  sort?: (by: Column, isDownFirst: boolean) => void
}

export function LimitsTable({ types, order, sort }: TableProps) {
  const head = (column: Column, isNumber: boolean) =>
    order && sort ? <SortButton label={say(column)} sort={() => sort(column, isNumber)} /> : say(column)
  const sorted = (column: Column) => order && ariaSort(order, column)
  return (
    <table class="cards limits">
      <thead>
        <tr>
          <th aria-sort={sorted('type')}>{head('type', false)}</th>
          <th class="wide" aria-sort={sorted('inUse')}>
            {head('inUse', true)}
          </th>
          <th>{say('limit')}</th>
          <th>{say('ofEachGroup')}</th>
          <th>{say('rate')}</th>
          <th class="num" aria-sort={sorted('waiting')}>
            {head('waiting', true)}
          </th>
          <td />
        </tr>
      </thead>
      {types.map((type) => (
        <Limit key={type.type} info={type} />
      ))}
    </table>
  )
}

interface Values {
  limit: string
  group: string
  rate: string
}

function Limit({ info }: { info: TypeInfo }) {
  const { type, processing, max_concurrency: limit, pending, paused, held_until } = info
  const [edited, setEdited] = useState<Partial<Values>>({})
  const [showsHolders, setShowsHolders] = useState(false)
  const [run, error] = useAction()
  const [present, noteSaved] = usePresent(info)
  const values = { ...present, ...edited }
  const isChanged = Object.keys(present).some((name) => values[name as keyof Values] !== present[name as keyof Values])
  const isStopped = paused || held_until !== null
  const form = `limit-${type}`
  const submit = (event: Event) => {
    event.preventDefault()
    run(async () => {
      await save(type, present, values)
      noteSaved(values)
      setEdited({})
    })
  }
  const switchOn = () => run(() => call('POST', `/types/${encodeURIComponent(type)}/${isStopped ? 'resume' : 'pause'}`))
  const field = (name: keyof Values, label: string) => (
    <Field
      form={form}
      name={name}
      label={`${label}: ${type}`}
      value={values[name]}
      set={(value) => setEdited({ ...edited, [name]: value })}
    />
  )
  const next = values.limit === '' ? null : Number(values.limit)
  const told = isChanged ? preview(info, next) : ''
  return (
    <tbody>
      <tr aria-label={type}>
        <th scope="row">
          <a href={typeAddress(type)}>{type}</a>
          {paused && <span class="badge paused">{say('paused')}</span>}
          {held_until && <span class="badge paused">{say('heldUntil', time(held_until))}</span>}
        </th>
        <td data-label={say('inUse')}>
          <button
            type="button"
            class="used plain"
            aria-expanded={showsHolders}
            title={say('holders')}
            onClick={() => setShowsHolders(!showsHolders)}
          >
            {limit !== null && <Meter value={processing} max={limit} label={`${type}: ${say('permits')}`} />}
            <span class="nowrap">
              {limit === null ? number(processing) : say('of', number(processing), number(limit))}
            </span>
          </button>
        </td>
        <td data-label={say('limit')}>{field('limit', say('limit'))}</td>
        <td data-label={say('ofEachGroup')}>{field('group', say('ofEachGroup'))}</td>
        <td data-label={say('rate')}>{field('rate', say('rate'))}</td>
        <td class="num" data-label={say('waiting')}>
          {number(pending)}
        </td>
        <td>
          {may('admin') && (
            <form id={form} onSubmit={submit}>
              <button type="submit" disabled={!isChanged}>
                {say('set')}
              </button>
              <button type="button" class="plain" onClick={switchOn}>
                {say(isStopped ? 'resume' : 'pause')}
              </button>
            </form>
          )}
        </td>
      </tr>
      {(told !== '' || error !== '' || showsHolders) && (
        <tr>
          <td colSpan={7}>
            {told !== '' && (
              <p class="preview" role="status">
                {told}
              </p>
            )}
            <ErrorLine error={error} />
            {showsHolders && <Holders type={type} />}
          </td>
        </tr>
      )}
    </tbody>
  )
}

interface FieldProps {
  form: string
  name: keyof Values
  label: string
  value: string
  set: (value: string) => void
}

function Field({ form, name, label, value, set }: FieldProps) {
  if (!may('admin')) return <>{value === '' ? '–' : value}</>
  const isRate = name === 'rate'
  return (
    <input
      form={form}
      type={isRate ? 'text' : 'number'}
      {...(isRate ? { pattern: '[0-9]+/.+', title: '100/1m' } : { min: '1', max: '1000000' })}
      value={value}
      placeholder={say('noLimit')}
      aria-label={label}
      onInput={(event) => set(event.currentTarget.value)}
    />
  )
}

/** The present values: those that were just saved, until the figures of the next seconds have them. */
function usePresent(info: TypeInfo): [present: Values, noteSaved: (values: Values) => void] {
  const [saved, setSaved] = useState<Values | null>(null)
  const refreshes = useRef(0)
  useEffect(() => {
    refreshes.current += 1
    if (refreshes.current >= 2) setSaved(null)
  }, [info])
  const noteSaved = (values: Values) => {
    refreshes.current = 0
    setSaved(values)
  }
  return [saved ?? valuesOf(info), noteSaved]
}

function valuesOf({ max_concurrency: limit, group_concurrency: group, rate }: TypeInfo): Values {
  return {
    limit: limit === null ? '' : String(limit),
    group: group === null ? '' : String(group),
    rate: rate === null ? '' : `${rate.max}/${durationInput(rate.per)}`,
  }
}

/** Sends what differs; '' removes a limit. */
async function save(type: string, present: Values, values: Values): Promise<void> {
  const path = (name: string) => `/limits/${encodeURIComponent(name)}`
  const count = (text: string) => (text === '' ? null : Number(text))
  const [max, per] = values.rate.split('/')
  const ofType = {
    ...(values.limit !== present.limit && { max: count(values.limit) }),
    ...(values.rate !== present.rate && { rate: values.rate === '' ? null : { max: Number(max), per } }),
  }
  if (Object.keys(ofType).length > 0) await call('PUT', path(`type:${type}`), ofType)
  if (values.group !== present.group) await call('PUT', path(`group:${type}/*`), { max: count(values.group) })
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

function Holders({ type }: { type: string }) {
  const [holders, setHolders] = useState<Holder[]>([])
  useEachSecond(async () => {
    const { holders: told } = await get<{ holders: Holder[] }>(`/limits/${encodeURIComponent(`type:${type}`)}`)
    setHolders(told)
  }, [type])
  if (holders.length === 0) return <p class="dim">{say('noHolders')}</p>
  return (
    <ul class="runs" aria-label={say('holders')}>
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
  )
}
