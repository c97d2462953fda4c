import { toast } from './feedback.tsx'
import { submittedAt } from './task-search.ts'
import { momentOf, say, shortDuration } from './words.ts'

export function CopyButton({ text, label = say('copy') }: { text: string; label?: string }) {
  const copy = (event: Event) => {
    event.stopPropagation()
    // Only pages from a secure origin may write to the clipboard.
    const done = navigator.clipboard?.writeText(text) ?? Promise.reject(new Error('no clipboard'))
    done.then(
      () => toast(say('copied')),
      () => toast(say('notCopied'), true),
    )
  }
  return (
    <button type="button" class="icon copy" aria-label={label} title={label} onClick={copy}>
      <svg viewBox="0 0 16 16" width="14" height="14" aria-hidden="true">
        <rect x="5" y="5" width="8.5" height="8.5" rx="1.5" />
        <path d="M11 5V3.5A1 1 0 0 0 10 2.5H3.5a1 1 0 0 0-1 1V10a1 1 0 0 0 1 1H5" />
      </svg>
    </button>
  )
}

/** The first part of an id, which the command line accepts too, and the end, which differs most. */
export function shortId(id: string): string {
  return id.length <= 16 ? id : `${id.slice(0, 8)}…${id.slice(-4)}`
}

export function TaskLink({ id }: { id: string }) {
  return (
    <a class="task-link" href={`#/tasks/${id}`} title={id}>
      {shortId(id)}
    </a>
  )
}

/** How long ago it was submitted; the exact time is shown on hover. */
export function Age({ id }: { id: string }) {
  const at = submittedAt(id)
  return (
    <time dateTime={new Date(at).toISOString()} title={momentOf(at)}>
      {age(at)}
    </time>
  )
}

/** In one unit: 34 s, 5 min, 3 h, 12 d. */
export function age(at: number): string {
  return shortDuration(Math.max(0, Math.floor((Date.now() - at) / 1_000)))
}
