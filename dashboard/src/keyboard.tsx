import { useEffect, useRef, useState } from 'preact/hooks'
import { Dialog } from './feedback.tsx'
import type { ListControl } from './virtual-list.tsx'
import { say, type Word } from './words.ts'

/** The keys of the page. Fields keep their own keys. */

interface List {
  count: number
  focus: (index: number) => void
  toggle: (index: number) => void
}

let list: List | null = null
let at = -1

const KEYS: readonly [key: string, does: Word][] = [
  ['/', 'key_search'],
  ['j', 'key_next'],
  ['k', 'key_previous'],
  ['Enter', 'key_open'],
  ['x', 'key_select'],
  ['g o', 'overview'],
  ['g t', 'tasks'],
  ['g w', 'workers'],
  ['g l', 'limits'],
  ['g s', 'schedules'],
  ['?', 'key_help'],
]
const PLACES: Record<string, string> = {
  o: '#/overview',
  t: '#/tasks',
  w: '#/workers',
  l: '#/limits',
  s: '#/schedules',
}
/** After `g`, the letter of a place. */
const SECOND_KEY_MS = 1_000

/** The rows that `j` and `k` move between, while the component is shown. */
export function useListKeys(present: List): void {
  const mine = useRef(present)
  Object.assign(mine.current, present)
  useEffect(() => {
    list = mine.current
    at = -1
    return () => {
      if (list === mine.current) list = null
    }
  }, [])
}

/** As `useListKeys`, for a list of which nothing can be selected. */
export function useRowKeys(count: number): { current: ListControl | null } {
  const control = useRef<ListControl>(null)
  useListKeys({ count, focus: (index) => control.current?.focus(index), toggle: () => undefined })
  return control
}

export function Keyboard() {
  const [helps, setHelps] = useState(false)
  useEffect(() => {
    let gone = 0
    const onKey = (event: KeyboardEvent) => {
      const { key, target } = event
      // A dialog that was closed keeps the focus until the page is drawn again.
      const isField = (target as Element).closest('input:not([type=checkbox]), textarea, select, dialog[open]') !== null
      if (isField || event.ctrlKey || event.metaKey || event.altKey) return
      if (event.timeStamp - gone < SECOND_KEY_MS && PLACES[key]) location.hash = PLACES[key]
      gone = key === 'g' ? event.timeStamp : 0
      if (key === '?') setHelps(true)
      else if (key === '/') searchField()?.focus()
      else if (key === 'j' || key === 'k') move(key === 'j' ? 1 : -1)
      else if (key === 'x' && list && at >= 0) list.toggle(at)
      else return
      event.preventDefault()
    }
    addEventListener('keydown', onKey)
    return () => removeEventListener('keydown', onKey)
  }, [])
  if (!helps) return null
  return (
    <Dialog title={say('keys')} close={() => setHelps(false)}>
      <dl class="keys-help">
        {KEYS.map(([key, does]) => (
          <div key={key}>
            <dt>
              {key.split(' ').map((one) => (
                <kbd key={one}>{one}</kbd>
              ))}
            </dt>
            <dd>{say(does)}</dd>
          </div>
        ))}
      </dl>
    </Dialog>
  )
}

function searchField(): HTMLInputElement | null {
  return document.querySelector('main input[type=search]')
}

function move(by: number): void {
  if (!list || list.count === 0) return
  at = Math.min(Math.max(at + by, 0), list.count - 1)
  list.focus(at)
}
