// The status page: reads once, then follows the event stream; drawn at most once per animation frame.
const ROWS_MAX = 50
const tasks = new Map()
const $ = (id) => document.getElementById(id)
const api = async (path, init) => {
  const response = await fetch(`/api/v1${path}`, init)
  const body = await response.json()
  if (!response.ok) throw new Error(body.detail)
  return body
}

/** A cell shows text and only text, whatever a payload or an error holds. */
function cell(text, className = '') {
  const td = document.createElement('td')
  td.textContent = text
  td.className = className
  return td
}

function row(...cells) {
  const tr = document.createElement('tr')
  tr.append(...cells)
  return tr
}

const seconds = (percentiles) => (percentiles ? `${percentiles.p95.toPrecision(2)} s` : '–')

function drawTotals(stats) {
  const shown = ['pending', 'delayed', 'processing', 'success', 'failed', 'canceled', 'timeout'].map((name) => {
    const div = document.createElement('div')
    const dt = document.createElement('dt')
    const dd = document.createElement('dd')
    dt.textContent = name
    dd.textContent = stats[`${name}_tasks`].toLocaleString()
    div.append(dt, dd)
    return div
  })
  $('totals').replaceChildren(...shown)
}

function drawTypes(types) {
  const rows = types.map((type) =>
    row(
      cell(type.paused ? `${type.type} (paused)` : type.type),
      cell(type.pending),
      cell(type.processing),
      cell(type.max_concurrency ?? '–'),
      cell(type.throughput.toFixed(1)),
      cell(seconds(type.wait)),
      cell(seconds(type.run)),
      cell(type.workers),
    ),
  )
  $('types').replaceChildren(...rows)
  const select = document.querySelector('select[name=type]')
  if (select.options.length === types.length) return
  const chosen = select.value
  select.replaceChildren(...types.map(({ type }) => new Option(type, type)))
  select.value = chosen || (types.some(({ type }) => type === 'example') ? 'example' : select.value)
}

function action(task) {
  const td = document.createElement('td')
  const open = ['pending', 'processing'].includes(task.status)
  if (task.status === 'success') return td
  const button = document.createElement('button')
  button.textContent = open ? 'Cancel' : 'Retry'
  const [path, method] = open ? ['', 'DELETE'] : ['/retry', 'POST']
  button.onclick = () => api(`/tasks/${task.id}${path}`, { method }).catch((error) => alert(error.message))
  td.append(button)
  return td
}

function drawTasks() {
  const newest = [...tasks.values()].sort((a, b) => (a.id < b.id ? 1 : -1)).slice(0, ROWS_MAX)
  const kept = new Set(newest.map(({ id }) => id))
  for (const id of tasks.keys()) if (!kept.has(id)) tasks.delete(id)
  const rows = newest.map((task) => {
    const told = task.error ?? (task.result === null ? '' : JSON.stringify(task.result))
    const progress = task.progress === null ? '' : JSON.stringify(task.progress)
    return row(
      cell(task.id),
      cell(task.type),
      cell(task.status, task.status),
      cell(task.attempts),
      cell(progress),
      cell(told.split('\n')[0].slice(0, 200), 'text'),
      action(task),
    )
  })
  $('tasks').replaceChildren(...rows)
}

let scheduled = false
function drawSoon() {
  if (scheduled) return
  scheduled = true
  requestAnimationFrame(() => {
    scheduled = false
    drawTasks()
  })
}

async function readNumbers() {
  try {
    const [stats, { types }] = await Promise.all([api('/stats'), api('/types')])
    drawTotals(stats)
    drawTypes(types)
  } catch {
    // The event stream says that the server is away; the next tick tries again.
  }
}

async function readTasks() {
  for (const task of (await api(`/tasks?limit=${ROWS_MAX}`)).tasks) tasks.set(task.id, task)
  drawSoon()
}

function follow() {
  const events = new EventSource('/api/v1/events')
  events.onopen = () => {
    $('connection').textContent = 'live'
    readTasks().catch(() => undefined)
  }
  events.onerror = () => {
    $('connection').textContent = 'the server is away, connecting again…'
  }
  const take = ({ data }) => {
    const event = JSON.parse(data)
    const { task_id: id, progress, ...change } = event
    const before = tasks.get(id)
    tasks.set(id, { ...before, ...change, id, progress: progress ?? before?.progress ?? null })
    drawSoon()
  }
  events.addEventListener('status', take)
  events.addEventListener('progress', take)
}

$('submit').addEventListener('submit', async (event) => {
  event.preventDefault()
  const form = new FormData(event.target)
  try {
    const payload = JSON.parse(form.get('payload'))
    const body = JSON.stringify({ type: form.get('type'), payload })
    const task = await api('/tasks', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body })
    $('submitted').textContent = `submitted ${task.id}`
  } catch (error) {
    $('submitted').textContent = error.message
  }
})

follow()
readNumbers()
setInterval(readNumbers, 1_000)
