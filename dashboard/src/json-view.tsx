import { useState } from 'preact/hooks'
import type { Json } from './api.ts'
import { CopyButton } from './ids.tsx'
import { number, say } from './words.ts'

/** JSON as a tree that folds. The browser's own `details` bring keyboard and screen reader. */

/** Of a value with more members than this, only the first level is open. */
const LONG = 200
/** Members that are drawn at once; a button draws as many again. */
const MEMBERS_SHOWN = 100
const TEXT_SHOWN = 2_000

export function JsonView({ value, label }: { value: Json; label: string }) {
  const [levels, setLevels] = useState(() => (sizeOf(value) > LONG ? 1 : Number.POSITIVE_INFINITY))
  const [version, setVersion] = useState(0)
  const [wraps, setWraps] = useState(true)
  const isTree = typeof value === 'object' && value !== null
  const fold = (to: number) => {
    setLevels(to)
    setVersion(version + 1)
  }
  return (
    <div class="json-box">
      <div class="json-tools">
        {isTree && (
          <>
            <button type="button" class="plain small" onClick={() => fold(0)}>
              {say('foldAll')}
            </button>
            <button type="button" class="plain small" onClick={() => fold(Number.POSITIVE_INFINITY)}>
              {say('unfoldAll')}
            </button>
          </>
        )}
        <button type="button" class="plain small" aria-pressed={wraps} onClick={() => setWraps(!wraps)}>
          {say('wrap')}
        </button>
        <CopyButton text={typeof value === 'string' ? value : JSON.stringify(value, null, 2)} />
      </div>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard */}
      <div class={`json-view ${wraps ? 'wraps' : ''}`} role="group" tabIndex={0} aria-label={label}>
        {typeof value === 'string' ? value : <Node key={version} value={value} levels={levels} isLast />}
      </div>
    </div>
  )
}

interface NodeProps {
  name?: string
  value: Json
  /** Levels that are open. */
  levels: number
  isLast?: boolean
}

function Node({ name, value, levels, isLast = false }: NodeProps) {
  const comma = isLast ? '' : ','
  const key = name === undefined ? null : <Name name={name} />
  if (typeof value !== 'object' || value === null) {
    return (
      <div class="json-line">
        {key}
        <Leaf value={value} />
        {comma}
      </div>
    )
  }
  const [open, close] = Array.isArray(value) ? '[]' : '{}'
  const count = Object.keys(value).length
  if (count === 0) return <div class="json-line">{[key, open, close, comma]}</div>
  return <Branch head={[key, open]} tail={close + comma} value={value} count={count} levels={levels} />
}

interface BranchProps {
  head: preact.ComponentChildren
  tail: string
  value: Json[] | { [key: string]: Json }
  count: number
  levels: number
}

function Branch({ head, tail, value, count, levels }: BranchProps) {
  const [isOpen, setIsOpen] = useState(levels > 0)
  const [shown, setShown] = useState(MEMBERS_SHOWN)
  const isList = Array.isArray(value)
  return (
    <details class="json-branch" open={isOpen} onToggle={({ currentTarget }) => setIsOpen(currentTarget.open)}>
      <summary>
        {head}
        {!isOpen && (
          <span class="dim">
            {' '}
            {say(isList ? 'items' : 'fields', number(count))} {tail}
          </span>
        )}
      </summary>
      {isOpen && (
        <div class="json-members">
          {Object.entries(value)
            .slice(0, shown)
            .map(([name, member], index) => (
              <Node
                key={name}
                {...(isList ? {} : { name })}
                value={member}
                levels={levels - 1}
                isLast={index === count - 1}
              />
            ))}
          {count > shown && (
            <button type="button" class="plain small" onClick={() => setShown(shown + MEMBERS_SHOWN)}>
              {say('andMore', number(count - shown))}
            </button>
          )}
        </div>
      )}
      {isOpen && <div>{tail}</div>}
    </details>
  )
}

function Name({ name }: { name: string }) {
  return (
    <>
      <span class="json-name">{JSON.stringify(name)}</span>
      {': '}
    </>
  )
}

function Leaf({ value }: { value: null | boolean | number | string }) {
  const [isWhole, setIsWhole] = useState(false)
  const text = JSON.stringify(value)
  if (isWhole || text.length <= TEXT_SHOWN) return <span class={`json-${typeof value}`}>{text}</span>
  return (
    <>
      <span class="json-string">{text.slice(0, TEXT_SHOWN)}</span>
      <button type="button" class="plain small" onClick={() => setIsWhole(true)}>
        {say('moreChars', number(text.length - TEXT_SHOWN))}
      </button>
    </>
  )
}

/** The number of values in it, counted no further than needed. */
function sizeOf(value: Json): number {
  let size = 0
  const left: Json[] = [value]
  for (let next = left.pop(); next !== undefined && size <= LONG; next = left.pop()) {
    size += 1
    if (typeof next === 'object' && next !== null) left.push(...Object.values(next).slice(0, LONG))
  }
  return size
}
