import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks'
import { type LogLine, urlOf } from './api.ts'
import { live } from './live.ts'
import { instant, moment, say } from './words.ts'

/** Lines that the page shows of one task; the server keeps 1,000 unless it is set otherwise. */
const LINES_MAX = 2_000

/** The lines that the handler of a task logged, as they come: a stream that ends with the task. */
export function useLog(id: string, generation: string): LogLine[] {
  const [lines, setLines] = useState<LogLine[]>([])
  const read = useRef<LogLine[]>([])
  useEffect(() => {
    read.current = []
    setLines([])
  }, [id])
  // A new connection, and a task that runs again, continue behind the last line.
  useEffect(() => {
    const stop = new AbortController()
    const onLines = (some: LogLine[]) => {
      const last = read.current.at(-1)?.n ?? 0
      read.current = [...read.current, ...some.filter(({ n }) => n > last)].slice(-LINES_MAX)
      setLines(read.current)
    }
    void follow(id, read.current.at(-1)?.n ?? 0, stop.signal, onLines).catch(() => undefined)
    return () => stop.abort()
  }, [id, generation, live.generation])
  return lines
}

async function follow(id: string, after: number, signal: AbortSignal, onLines: (lines: LogLine[]) => void) {
  const headers = { Accept: 'text/event-stream', 'Last-Event-ID': String(after) }
  const answer = await fetch(urlOf(`api/v1/tasks/${id}/logs`), { signal, headers })
  if (!answer.ok) return
  const reader = answer.body!.pipeThrough(new TextDecoderStream()).getReader()
  for (let text = ''; ; ) {
    const { value, done } = await reader.read()
    if (done) return
    const blocks = (text + value).split('\n\n')
    text = blocks.pop()!
    const lines = blocks.flatMap((block) => {
      const data = /^event: log$/m.test(block) && /^data: (.*)$/m.exec(block)?.[1]
      return data ? [JSON.parse(data) as LogLine] : []
    })
    if (lines.length > 0) onLines(lines)
  }
}

/** From where the user is at the end, new lines come into view. */
const END_PX = 8

export function LogLines({ lines }: { lines: LogLine[] }) {
  const box = useRef<HTMLPreElement>(null)
  const isAtEnd = useRef(true)
  useLayoutEffect(() => {
    if (isAtEnd.current) box.current?.scrollTo({ top: box.current.scrollHeight })
  }, [lines.at(-1)?.n])
  if (lines.length === 0) return null
  return (
    <pre
      class="log"
      role="group"
      // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
      tabIndex={0}
      aria-label={say('log')}
      ref={box}
      onScroll={({ currentTarget: { scrollTop, clientHeight, scrollHeight } }) => {
        isAtEnd.current = scrollTop + clientHeight > scrollHeight - END_PX
      }}
    >
      {lines.map(({ n, time, level, message, fields }) => (
        <div key={n} class={level}>
          <time dateTime={time} title={moment(time)}>
            {instant(time)}
          </time>{' '}
          <b class="level">{level}</b> {message} {fields && <Fields fields={fields} />}
        </div>
      ))}
    </pre>
  )
}

/** A stack is easier to read on lines of its own. */
function Fields({ fields: { err, ...others } }: { fields: NonNullable<LogLine['fields']> }) {
  return (
    <span class="dim">
      {Object.keys(others).length > 0 && JSON.stringify(others)}
      {err !== undefined && `\n${typeof err === 'string' ? err : JSON.stringify(err)}`}
    </span>
  )
}
