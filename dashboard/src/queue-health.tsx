import type { Health, NamedLimit, TypeInfo } from './api.ts'
import { errorsAddress, type Range, rangeTitle } from './history.tsx'
import { typeAddress } from './task-search.ts'
import { CONDITIONS, type Condition } from './type-table.tsx'
import { number, say, time } from './words.ts'

const LIMITS_SHOWN = 3

interface Props {
  health: Health | null
  types: readonly TypeInfo[]
  limits: readonly NamedLimit[]
  /** Tasks that failed in the range; null until known. */
  failures: number | null
  range: Range
}

/** In one line whether tasks start: each obstacle with the number of types, linked to them. */
export function QueueHealth({ health, types, limits, failures, range }: Props) {
  if (!health) return null
  const stalled = health.checks.find(({ name }) => name === 'stalled')
  const failing = health.checks.filter(({ name, ok }) => !ok && name !== 'stalled')
  const found = (Object.keys(CONDITIONS) as Condition[])
    .map((condition) => ({ condition, types: types.filter(CONDITIONS[condition]) }))
    .filter(({ types: some }) => some.length > 0)
  const stopping = limits.filter(({ paused, held_until, waiting, in_use, max }) => {
    return (waiting ?? 0) > 0 && (paused || held_until !== null || (max !== null && (in_use ?? 0) >= max))
  })
  const isFine = stopping.length === 0 && stalled?.ok !== false && failing.length === 0 && found.length === 0
  return (
    <p class="queue-health" role="group" aria-label={say('queueHealth')}>
      {failing.map(({ name, detail }) => (
        <button type="button" key={name} class="chip failed" title={detail} onClick={toSystem}>
          {name} <b>{detail}</b>
        </button>
      ))}
      {stalled?.ok === false && (
        <a class="chip failed" href="#/tasks?status=pending" title={stalled.detail}>
          {say('stalled')} <b>{stalled.detail}</b>
        </a>
      )}
      {failures !== null && failures > 0 && (
        <a class="chip failed" href={errorsAddress(range)} title={rangeTitle(range)}>
          {say('failed')} <b>{number(failures)}</b> {range !== 'live' && rangeTitle(range)}
        </a>
      )}
      {found.map(({ condition, types: some }) => (
        <a
          key={condition}
          class={`chip ${condition === 'noWorker' ? 'failed' : condition === 'paused' ? 'timeout' : 'processing'}`}
          href={some.length === 1 ? typeAddress(some[0]!.type) : `#/overview?only=${condition}`}
          title={some
            .slice(0, 20)
            .map(({ type }) => type)
            .join('\n')}
        >
          {say(condition)} <b>{some.length === 1 ? some[0]!.type : say('countTypes', number(some.length))}</b>
        </a>
      ))}
      {stopping.slice(0, LIMITS_SHOWN).map((limit) => (
        <a key={limit.name} class={`chip ${isStopped(limit) ? 'timeout' : 'processing'}`} href="#/limits">
          {say('limitStops')} <b>{limit.name}</b> {reasonOf(limit)}
        </a>
      ))}
      {stopping.length > LIMITS_SHOWN && (
        <a href="#/limits">{say('andMore', number(stopping.length - LIMITS_SHOWN))}</a>
      )}
      {isFine && <span class="chip success">{say('allFine')}</span>}
    </p>
  )
}

function isStopped({ paused, held_until }: NamedLimit): boolean {
  return paused || held_until !== null
}

function reasonOf({ paused, held_until, in_use, max }: NamedLimit): string {
  if (paused) return say('paused')
  if (held_until !== null) return say('heldUntil', time(held_until))
  return say('of', number(in_use ?? 0), number(max ?? 0))
}

function toSystem(): void {
  document.querySelector('.checks')?.scrollIntoView({ behavior: 'smooth' })
}
