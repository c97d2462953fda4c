import { useEffect, useRef, useState } from 'preact/hooks'
import { say } from './words.ts'

/** Short messages about what was done, and the question before something is changed for good. */

const SHOWN_MS = 5_000
/** An error stays longer: it has to be read. */
const ERROR_SHOWN_MS = 12_000
const TOASTS_MAX = 4

interface Toast {
  id: number
  text: string
  isError: boolean
}

export interface Question {
  title: string
  /** What will happen; an answer of the server may be needed for it. */
  detail: string
  /** The text of the button that confirms. */
  action: string
  isDanger?: boolean
}

let toasts: Toast[] = []
let asked: (Question & { answer: (isConfirmed: boolean) => void }) | null = null
let redraw: () => void = () => undefined
let last = 0

export function toast(text: string, isError = false): void {
  last += 1
  const id = last
  toasts = [...toasts.slice(1 - TOASTS_MAX), { id, text, isError }]
  redraw()
  setTimeout(() => dismiss(id), isError ? ERROR_SHOWN_MS : SHOWN_MS)
}

/** Asks the user. A second question answers the first with no. */
export function confirmed(question: Question): Promise<boolean> {
  asked?.answer(false)
  return new Promise((resolve) => {
    const answer = (isConfirmed: boolean) => {
      asked = null
      redraw()
      resolve(isConfirmed)
    }
    asked = { ...question, answer }
    redraw()
  })
}

/** Runs after a confirmation, and shows the outcome or the error. */
export async function confirmedRun(question: Question, act: () => Promise<string>): Promise<void> {
  if (!(await confirmed(question))) return
  await act().then(
    (text) => toast(text),
    (error: Error) => toast(error.message, true),
  )
}

/** Asks before a schedule or a limit is removed, and tells that it was. @param effect what follows from it */
export function confirmedRemoval(name: string, effect: string, act: () => Promise<unknown>): Promise<void> {
  const question = { title: say('ask_drop', name), detail: effect, action: say('drop'), isDanger: true }
  return confirmedRun(question, async () => {
    await act()
    return say('wasRemoved', name)
  })
}

function dismiss(id: number): void {
  toasts = toasts.filter((each) => each.id !== id)
  redraw()
}

export function Feedback() {
  const [, draw] = useState(0)
  redraw = () => draw((n) => n + 1)
  return (
    <>
      <div class="toasts" role="log" aria-label={say('messages')} aria-live="polite">
        {toasts.map(({ id, text, isError }) => (
          <div key={id} class={`toast ${isError ? 'failed' : 'success'}`}>
            <span>{text}</span>
            <button type="button" class="plain" aria-label={say('close')} onClick={() => dismiss(id)}>
              ×
            </button>
          </div>
        ))}
      </div>
      {asked && <Ask key={asked.title} question={asked} answer={asked.answer} />}
    </>
  )
}

function Ask({ question, answer }: { question: Question; answer: (isConfirmed: boolean) => void }) {
  const { title, detail, action, isDanger = false } = question
  return (
    <Dialog title={title} close={() => answer(false)}>
      <p>{detail}</p>
      <div class="dialog-actions">
        <button type="button" class="plain" onClick={() => answer(false)}>
          {say('back')}
        </button>
        <button type="button" autofocus class={isDanger ? 'danger' : ''} onClick={() => answer(true)}>
          {action}
        </button>
      </div>
    </Dialog>
  )
}

/** The browser keeps the focus in it, and gives it back. */
export function Dialog({
  title,
  close,
  children,
}: {
  title: string
  close: () => void
  children: preact.ComponentChildren
}) {
  const box = useRef<HTMLDialogElement>(null)
  useEffect(() => box.current!.showModal(), [])
  return (
    // Escape closes it too.
    // biome-ignore lint/a11y/useKeyWithClickEvents: see above
    <dialog ref={box} aria-label={title} onClose={close} onClick={(event) => event.target === box.current && close()}>
      <div class="dialog-body">
        <h2>{title}</h2>
        {children}
      </div>
    </dialog>
  )
}
