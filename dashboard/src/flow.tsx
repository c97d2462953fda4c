import { useEffect, useMemo, useRef, useState } from 'preact/hooks'
import { type BatchState, get, type Status, type Task } from './api.ts'
import { layOut, NODE, type Stack, stack } from './graph.ts'
import { live, type Row, useLive } from './live.ts'
import { Panel, StatusBadge } from './parts.tsx'
import { number, say } from './words.ts'

/** More tasks of a batch than this are not drawn, and so many more are read for what the drawn ones wait for. */
const DRAWN_MAX = 200
const FOLLOWED_MAX = 50
/** Maximum number of links in a row. */
const LINKS_MAX = 10
/** Statuses by importance, which determine the color of a group. */
const BY_CONCERN = ['failed', 'timeout', 'canceled', 'processing', 'pending', 'success'] as const

interface FlowTask {
  id: string
  type: string
  status: Status
  after: readonly string[]
  batch: string | null
  at: string
}

interface Flow {
  tasks: FlowTask[]
  /** How many it knows of and has not read. */
  more: number
}

interface Props {
  /** All of its tasks are drawn; without one, what the task waits for, and what those waited for. */
  batch: string | null
  /** How many tasks the batch has: with more of them, they are read again. */
  total?: number | undefined
  /** Whose place in it is shown. */
  task?: Task
}

/** Which task waits for which, each with its state as it changes; nothing where none waits for another. */
export function FlowPanel({ batch, total, task }: Props) {
  const { rows, generation } = useLive()
  const [flow, setFlow] = useState<Flow>({ tasks: [], more: 0 })
  useEffect(() => {
    let isNewest = true
    const show = (read: Flow) => isNewest && setFlow(read)
    void readFlow(batch, task).then(show, () => undefined)
    return () => {
      isNewest = false
    }
  }, [batch, total, task?.id, generation])
  for (const shown of flow.tasks) update(shown, rows.get(shown.id))
  if (flow.tasks.every(({ after }) => after.length === 0)) return null
  return (
    <Panel title={say('flow')} aside={task && batch !== null && <BatchLink batch={batch} />}>
      <Drawing tasks={flow.tasks} present={task?.id} />
      {flow.more > 0 && <p class="dim undrawn">{say('undrawn', number(flow.more))}</p>}
    </Panel>
  )
}

/** Rows of the list are dropped over time, so their data is kept here. */
function update(shown: FlowTask, heard: Row | undefined): void {
  if (!heard || heard.at < shown.at) return
  shown.status = heard.status
  shown.at = heard.at
}

async function readFlow(batch: string | null, task: Task | undefined): Promise<Flow> {
  const found = new Map<string, FlowTask>()
  const add = ({ id, type, status, after, batch: of, updated_at: at }: Task) =>
    found.set(id, { id, type, status, after, batch: of, at })
  let kept = 0
  if (batch !== null) {
    const search = new URLSearchParams({ batch, limit: String(DRAWN_MAX) })
    const page = await get<{ tasks: Task[]; next_cursor: string | null }>(`/tasks?${search}`)
    // Newest first, and drawn in the order in which they were submitted.
    for (const each of page.tasks.reverse()) add(each)
    if (page.next_cursor !== null) {
      const { total, removed } = await get<BatchState>(`/batches/${encodeURIComponent(batch)}`)
      kept = total - removed
    }
  }
  if (task) add(task)
  // What retention has removed is asked for once, and left out.
  const asked = new Set<string>()
  const unread = () => {
    const ids = new Set([...found.values()].flatMap(({ after }) => after))
    return [...ids].filter((id) => !found.has(id) && !asked.has(id))
  }
  for (let ids = unread(); ids.length > 0 && asked.size < FOLLOWED_MAX; ids = unread()) {
    const next = ids.slice(0, FOLLOWED_MAX - asked.size)
    for (const id of next) asked.add(id)
    const read = await Promise.all(next.map((id) => get<Task>(`/tasks/${id}`).catch(() => null)))
    for (const each of read) if (each) add(each)
  }
  for (const each of found.values()) update(each, live.rows.get(each.id))
  const tasks = [...found.values()]
  const more = kept === 0 ? unread().length : kept - tasks.filter((each) => each.batch === batch).length
  return { tasks, more }
}

function Drawing({ tasks, present }: { tasks: FlowTask[]; present: string | undefined }) {
  const box = useRef<HTMLDivElement>(null)
  const [opened, setOpened] = useState<readonly string[]>([])
  const { stacks, graph } = useMemo(() => {
    const apart = new Set(present === undefined ? opened : [...opened, present])
    const stacks = stack(tasks, apart)
    return { stacks: new Map(stacks.map((one) => [one.id, one])), graph: layOut(stacks) }
  }, [tasks, present, opened])
  // The present task is in sight from the beginning, in the middle where there is room around it.
  useEffect(() => {
    const place = graph.nodes.find(({ id }) => id === present)
    if (!place) return
    const { clientWidth, clientHeight } = box.current!
    const left = place.x + (NODE.width - clientWidth) / 2
    box.current!.scrollTo(left, place.y + (NODE.height - clientHeight) / 2)
  }, [tasks, present])
  const { width, height, nodes, lines } = graph
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
    <div class="flow" ref={box} role="group" aria-label={say('flow')} tabIndex={0}>
      <div class="flow-ground" style={{ width: `${width}px`, height: `${height}px` }}>
        <svg width={width} height={height} aria-hidden="true">
          {lines.map(({ from, path, arrows }) => (
            <g key={from} class={worstOf(stacks.get(from)!)}>
              <path class="line" d={path} />
              <path d={arrows} />
            </g>
          ))}
        </svg>
        {nodes.map(({ id, x, y }) => {
          const one = stacks.get(id)!
          const style = { left: `${x}px`, top: `${y}px`, width: `${NODE.width}px`, height: `${NODE.height}px` }
          const open = () => {
            setOpened([...opened, ...one.tasks.map((task) => task.id)])
            box.current!.focus() // The clicked element no longer exists.
          }
          if (one.tasks.length > 1) return <Pile key={id} stack={one} style={style} open={open} />
          return <Node key={id} task={one.tasks[0]!} style={style} isPresent={id === present} />
        })}
      </div>
    </div>
  )
}

type Style = Record<'left' | 'top' | 'width' | 'height', string>

function Node({ task: { id, type, status }, style, isPresent }: { task: FlowTask; style: Style; isPresent: boolean }) {
  return (
    <a
      href={`#/tasks/${id}`}
      class={`flow-node ${status}`}
      title={`${type}\n${id}`}
      aria-current={isPresent ? 'true' : undefined}
      style={style}
    >
      <b>{type}</b>
      <span>
        {say(status)} <code>…{id.slice(-6)}</code>
      </span>
    </a>
  )
}

/** Tasks that are alike, with how many there are of each status; they part when it is clicked. */
function Pile({ stack, style, open }: { stack: Stack<FlowTask>; style: Style; open: () => void }) {
  const { type } = stack.tasks[0]!
  const counts = BY_CONCERN.map(
    (status) => [status, stack.tasks.filter((task) => task.status === status).length] as const,
  )
  const told = counts.filter(([, count]) => count > 0).map(([status, count]) => `${number(count)} ${say(status)}`)
  const title = `${type}\n${told.join(', ')}\n${say('drawEach')}`
  return (
    <button type="button" class={`flow-node pile ${worstOf(stack)}`} title={title} style={style} onClick={open}>
      <b>
        {number(stack.tasks.length)} × {type}
      </b>
      <span>{told.join(' · ')}</span>
    </button>
  )
}

function worstOf({ tasks }: Stack<FlowTask>): Status {
  return BY_CONCERN.find((status) => tasks.some((task) => task.status === status))!
}

export function BatchLink({ batch }: { batch: string }) {
  return (
    <a class="badge" href={`#/batch/${encodeURIComponent(batch)}`}>
      {batch}
    </a>
  )
}

/** Tasks by their ids, with their state if an event was received; `hasMore` if there are more than these. */
export function TaskLinks({ ids, hasMore = false }: { ids: readonly string[]; hasMore?: boolean }) {
  const { rows } = useLive()
  const rest = ids.length - LINKS_MAX
  return (
    <ul class="runs task-links">
      {ids.slice(0, LINKS_MAX).map((id) => {
        const heard = rows.get(id)
        return (
          <li key={id}>
            <a href={`#/tasks/${id}`}>{id}</a>
            {heard && <StatusBadge status={heard.status} />}
          </li>
        )
      })}
      {rest > 0 && <li class="dim">{say(hasMore ? 'andAtLeast' : 'andMore', number(rest))}</li>}
    </ul>
  )
}
