import type { Health, TypeInfo } from './api.ts'
import { typeAddress } from './task-search.ts'
import { CONDITIONS, type Condition } from './type-table.tsx'
import { number, say } from './words.ts'

/** In one line whether tasks start: each obstacle with the number of types, linked to them. */
export function QueueHealth({ health, types }: { health: Health | null; types: readonly TypeInfo[] }) {
  if (!health) return null
  const stalled = health.checks.find(({ name }) => name === 'stalled')
  const failing = health.checks.filter(({ name, ok }) => !ok && name !== 'stalled')
  const found = (Object.keys(CONDITIONS) as Condition[])
    .map((condition) => ({ condition, types: types.filter(CONDITIONS[condition]) }))
    .filter(({ types: some }) => some.length > 0)
  const isFine = stalled?.ok !== false && failing.length === 0 && found.length === 0
  return (
    <p class="queue-health" role="group" aria-label={say('queueHealth')}>
      {failing.map(({ name, detail }) => (
        <button type="button" key={name} class="chip failed" title={detail} onClick={toSystem}>
          {name}: {detail}
        </button>
      ))}
      {stalled?.ok === false && (
        <a class="chip failed" href="#/tasks?status=pending" title={stalled.detail}>
          {say('stalled')}: {stalled.detail}
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
          {say(condition)}: <b>{some.length === 1 ? some[0]!.type : say('countTypes', number(some.length))}</b>
        </a>
      ))}
      {isFine && <span class="chip success">{say('allFine')}</span>}
    </p>
  )
}

function toSystem(): void {
  document.querySelector('.checks')?.scrollIntoView({ behavior: 'smooth' })
}
