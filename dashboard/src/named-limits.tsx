import { useState } from 'preact/hooks'
import { call, get, type Holder, type NamedLimit } from './api.ts'
import { confirmedRemoval } from './feedback.tsx'
import { live, useEachSecond, useLive } from './live.ts'
import { FilterField } from './order.tsx'
import { ErrorLine, Meter, Panel, useAction } from './parts.tsx'
import { may } from './session.ts'
import { durationInput, number, say, time } from './words.ts'

const pathOf = (name: string) => `/limits/${encodeURIComponent(name)}`

/** The figures of each second have no more; the whole list is read where there may be more. */
const STREAMED_MAX = 200
/** More rows than this make the page slow; the filter finds the others. */
const ROWS_MAX = 200
/** A filter of fewer rows is in the way. */
const FILTERED_FROM = 8
/** Those of types are in a table of their own. */
const OF_TYPES = /^(type:|group:.*\/\*$)/

/** Named limits and those of single groups: their use, their values, which can be changed, and their holders. */
export function NamedLimits() {
  const { limits: streamed, stats } = useLive()
  const [whole, setWhole] = useState<NamedLimit[]>([])
  const [filter, setFilter] = useState('')
  useEachSecond(async () => {
    if (live.limits.length < STREAMED_MAX) return
    const told = await get<{ limits: NamedLimit[] }>('/limits')
    setWhole(told.limits.filter(({ name }) => !OF_TYPES.test(name)))
  }, [])
  const all = streamed.length < STREAMED_MAX || whole.length === 0 ? streamed : whole
  if (!stats || (all.length === 0 && !may('admin'))) return null
  const word = filter.toLowerCase()
  const found = all.filter(({ name }) => name.toLowerCase().includes(word))
  const limits = found.slice(0, ROWS_MAX)
  const head = (
    <span class="terms">
      <span class="dim">{say('of', number(found.length), number(all.length))}</span>
      <FilterField value={filter} set={setFilter} />
    </span>
  )
  return (
    <Panel title={say('namedLimits')} aside={all.length > FILTERED_FROM && head}>
      {limits.length > 0 && (
        <table class="cards limits">
          <thead>
            <tr>
              <th>{say('name')}</th>
              <th class="wide">{say('inUse')}</th>
              <th>{say('limit')}</th>
              <th>{say('unitRate')}</th>
              <th class="num">{say('waiting')}</th>
              <td />
            </tr>
          </thead>
          {limits.map((limit) => (
            <Row key={limit.name} limit={limit} />
          ))}
        </table>
      )}
      {found.length > ROWS_MAX && <p class="dim">{say('andMore', number(found.length - ROWS_MAX))}</p>}
      {may('admin') && <NewLimit />}
    </Panel>
  )
}

function Row({ limit }: { limit: NamedLimit }) {
  const { name, max, in_use, waiting, paused, held_until } = limit
  const [edited, setEdited] = useState<Partial<Values>>({})
  const [showsHolders, setShowsHolders] = useState(false)
  const [run, error] = useAction()
  const present = valuesOf(limit)
  const values = { ...present, ...edited }
  const isChanged = values.max !== present.max || values.rate !== present.rate
  const isStopped = paused || held_until !== null
  const form = `named-${name}`
  const submit = (event: Event) => {
    event.preventDefault()
    run(async () => {
      await call('PUT', pathOf(name), changeOf(present, values))
      setEdited({})
    })
  }
  // The limit of one group has a maximum only.
  const isOfGroup = name.startsWith('group:')
  const remove = () => confirmedRemoval(name, say('effect_drop_limit'), () => call('DELETE', pathOf(name)))
  const switchOn = () => run(() => call('POST', `${pathOf(name)}/${isStopped ? 'resume' : 'pause'}`))
  return (
    <tbody>
      <tr aria-label={name}>
        <th scope="row">
          {name}
          {paused && <span class="badge paused">{say('paused')}</span>}
          {held_until && <span class="badge paused">{say('heldUntil', time(held_until))}</span>}
        </th>
        <td data-label={say('inUse')}>
          {in_use === null ? (
            <span class="dim">{isOfGroup ? '–' : say('ofEachKey')}</span>
          ) : (
            <button
              type="button"
              class="used plain"
              aria-expanded={showsHolders}
              title={say('holders')}
              onClick={() => setShowsHolders(!showsHolders)}
            >
              {max !== null && <Meter value={in_use} max={max} label={`${name}: ${say('permits')}`} />}
              <span class="nowrap">{max === null ? number(in_use) : say('of', number(in_use), number(max))}</span>
            </button>
          )}
        </td>
        <td data-label={say('limit')}>
          <Value form={form} label={`${say('limit')}: ${name}`} values={values} field="max" set={setEdited} />
        </td>
        <td data-label={say('unitRate')}>
          {isOfGroup ? (
            '–'
          ) : (
            <Value form={form} label={`${say('unitRate')}: ${name}`} values={values} field="rate" set={setEdited} />
          )}
        </td>
        <td class="num" data-label={say('waiting')}>
          {waiting === null ? '–' : number(waiting)}
        </td>
        <td>
          {may('admin') && (
            <form id={form} onSubmit={submit}>
              <button type="submit" disabled={!isChanged}>
                {say('set')}
              </button>
              {!isOfGroup && (
                <button type="button" class="plain" onClick={switchOn}>
                  {say(isStopped ? 'resume' : 'pause')}
                </button>
              )}
              <button type="button" class="plain" onClick={remove}>
                {say('drop')}…
              </button>
            </form>
          )}
        </td>
      </tr>
      {(error !== '' || showsHolders) && (
        <tr>
          <td colSpan={6}>
            <ErrorLine error={error} />
            {showsHolders && <UnitHolders name={name} />}
          </td>
        </tr>
      )}
    </tbody>
  )
}

interface Values {
  max: string
  rate: string
}

function valuesOf({ max, rate }: NamedLimit): Values {
  return {
    max: max === null ? '' : String(max),
    rate: rate === null ? '' : `${rate.max}/${durationInput(rate.per)}`,
  }
}

/** What differs; '' removes a value. */
function changeOf(present: Values, values: Values) {
  const [most, per] = values.rate.split('/')
  return {
    ...(values.max !== present.max && { max: values.max === '' ? null : Number(values.max) }),
    ...(values.rate !== present.rate && { rate: values.rate === '' ? null : { max: Number(most), per } }),
  }
}

interface ValueProps {
  form?: string
  label: string
  hint?: string
  values: Values
  field: keyof Values
  set: (values: Values) => void
}

function Value({ form, label, hint = say('noLimit'), values, field, set }: ValueProps) {
  const value = values[field]
  if (!may('admin')) return <>{value === '' ? '–' : value}</>
  const isRate = field === 'rate'
  return (
    <input
      class="value"
      {...(form === undefined ? {} : { form })}
      type={isRate ? 'text' : 'number'}
      {...(isRate ? { pattern: '[0-9]+/.+', title: '90000/1m' } : { min: '1', max: '1000000' })}
      value={value}
      placeholder={hint}
      aria-label={label}
      onInput={(event) => set({ ...values, [field]: event.currentTarget.value })}
    />
  )
}

const EMPTY: Values = { max: '', rate: '' }

function NewLimit() {
  const [name, setName] = useState('')
  const [values, setValues] = useState(EMPTY)
  const [run, error] = useAction()
  const submit = (event: Event) => {
    event.preventDefault()
    run(async () => {
      const { max, ...rate } = { max: null, ...changeOf(EMPTY, values) }
      await call('PUT', pathOf(name), { max, ...rate })
      setName('')
      setValues(EMPTY)
    })
  }
  return (
    <form class="new-limit" onSubmit={submit}>
      <input
        class="value"
        required
        maxLength={200}
        value={name}
        placeholder={say('namedLimitExample')}
        aria-label={say('name')}
        onInput={(event) => setName(event.currentTarget.value)}
      />
      <Value label={say('limit')} hint={say('limit')} values={values} field="max" set={setValues} />
      <Value
        label={say('unitRate')}
        hint={`${say('unitRate')}: 90000/1m`}
        values={values}
        field="rate"
        set={setValues}
      />
      <button type="submit" disabled={name === ''}>
        {say('addLimit')}
      </button>
      <ErrorLine error={error} />
    </form>
  )
}

function UnitHolders({ name }: { name: string }) {
  const [holders, setHolders] = useState<(Holder & { type?: string; units?: number })[]>([])
  useEachSecond(async () => setHolders((await get<{ holders: Holder[] }>(pathOf(name))).holders), [name])
  if (holders.length === 0) return <p class="dim">{say('noHolders')}</p>
  return (
    <ul class="runs" aria-label={say('holders')}>
      {holders.map(({ task_id, worker_id, since, type, units = 1 }) => (
        <li key={task_id}>
          <a href={`#/tasks/${task_id}`}>{task_id}</a>
          <span>
            {type} · {worker_id} · {say('units', number(units))}
          </span>
          <span class="dim">{time(since)}</span>
        </li>
      ))}
    </ul>
  )
}
