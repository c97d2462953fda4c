import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, expect, it, vi } from 'vitest'
import { parse } from 'yaml'
import { firstPackage, unpacked } from '../fixtures/debian.ts'
import { root } from '../fixtures/root.ts'
import { type Server, startServer } from '../fixtures/server.ts'

const read = (file: string) => readFileSync(join(root, file), 'utf8')

/** Labels that Prometheus adds, and names of recorded series. */
const OF_PROMETHEUS = ['job', 'instance', 'le']

let server: Server
/** As it was before anything was submitted, and after some attempts. */
let atFirst = ''
let text = ''
/** Each metric that the server exports, with its labels. */
const exported = new Map<string, Set<string>>()

beforeAll(async () => {
  server = await startServer(
    {},
    {
      works: { concurrency: 2, run: () => null },
      fails: { maxRetry: 0, run: () => Promise.reject(new Error('no')) },
    },
  )
  atFirst = (await server.get('/metrics')).body
  for (const type of ['works', 'fails']) await server.submit(type)
  await vi.waitFor(async () => {
    text = (await server.get('/metrics')).body
    expect(text).toContain('xqueue_attempts_total{type="works",outcome="success"} 1')
    expect(text).toContain('xqueue_attempts_total{type="fails",outcome="failure"} 1')
    for (const [, name, labels = ''] of text.matchAll(/^(\w+)(?:\{(.*)\})? \S+$/gm)) {
      const known = exported.get(name!) ?? new Set()
      for (const [, label] of labels.matchAll(/(\w+)="/g)) known.add(label!)
      exported.set(name!, known)
    }
  })
})

interface Dashboard {
  panels: {
    id: number
    gridPos: { x: number; y: number; w: number; h: number }
    targets?: { expr: string }[]
  }[]
  templating: { list: { definition?: string }[] }
}
interface Rules {
  groups: { rules: { alert: string; expr: string; annotations: { runbook: string } }[] }[]
}

const dashboard = JSON.parse(read('deploy/observability/grafana-dashboard.json')) as Dashboard
const rules = (parse(read('deploy/observability/alerts.yaml')) as Rules).groups.flatMap((group) => group.rules)
const adapter = parse(read('deploy/observability/prometheus-adapter.yaml')) as {
  rules: { external: { seriesQuery: string; metricsQuery: string }[] }
}

const queries: [where: string, query: string][] = [
  ...dashboard.panels.flatMap(({ id, targets = [] }) =>
    targets.map(({ expr }): [string, string] => [`panel ${id}`, expr]),
  ),
  ...dashboard.templating.list.flatMap(({ definition }): [string, string][] =>
    definition ? [['variable', definition]] : [],
  ),
  ...rules.map(({ alert, expr }): [string, string] => [alert, expr]),
  ...adapter.rules.external.flatMap(({ seriesQuery, metricsQuery }): [string, string][] => [
    ['adapter', seriesQuery],
    ['adapter', metricsQuery],
  ]),
]

it('exports every metric that the dashboard, the alerts and the autoscaler query', () => {
  const asked = queries.flatMap(([where, query]) =>
    [...query.matchAll(/\b(?:xqueue|process|nodejs)_\w+/g)].map(([name]) => ({ where, name })),
  )
  expect(asked.length).toBeGreaterThan(35)
  expect(asked.filter(({ name }) => !exported.has(name))).toEqual([])
})

it('exports every label that they select by', () => {
  const chosen = queries.flatMap(([where, query]) =>
    [...query.matchAll(/(xqueue_\w+)\{([^}]*)\}/g)].flatMap(([, name, selector]) =>
      [...selector!.matchAll(/(\w+)(?:=~|!~|!=|=)"/g)].map(([, label]) => ({ where, name: name!, label: label! })),
    ),
  )
  expect(chosen.length).toBeGreaterThan(20)
  const missing = ({ name, label }: { name: string; label: string }) =>
    !OF_PROMETHEUS.includes(label) && !exported.get(name)!.has(label)
  expect(chosen.filter(missing)).toEqual([])
})

it('labels metrics of types only with the type', () => {
  const ofTypes = ['pending', 'delayed', 'dependent', 'ready', 'processing'].map((which) => `xqueue_tasks_${which}`)
  for (const name of [...ofTypes, 'xqueue_workers', 'xqueue_paused', 'xqueue_concurrency_limit']) {
    expect([name, [...exported.get(name)!]]).toEqual([name, ['type']])
  }
})

it('the runbook describes every metric and alert, and no others', () => {
  const runbook = read('docs/operations.md')
  const documented = new Set([...runbook.matchAll(/`(xqueue_\w+)`/g)].map(([, name]) => name!))
  const own = [...exported.keys()]
    .filter((name) => name.startsWith('xqueue_'))
    .map((name) => name.replace(/(?<=_seconds)_(bucket|sum|count)$/, ''))
  expect([...new Set(own)].filter((name) => !documented.has(name))).toEqual([])
  expect([...documented].filter((name) => !exported.has(name) && !exported.has(`${name}_bucket`))).toEqual([])
  const sections = [...runbook.matchAll(/^### (.+)$/gm)].map(([, title]) => title!)
  expect(rules.map(({ alert }) => alert).filter((alert) => !sections.includes(alert))).toEqual([])
  for (const { alert, annotations } of rules) {
    expect(annotations.runbook).toBe(`docs/operations.md#${alert.toLowerCase()}`)
  }
})

it('the panels have different ids and are on the grid', () => {
  const { panels } = dashboard
  expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length)
  const cells = panels.flatMap(({ gridPos: { x, y, w, h } }) =>
    Array.from({ length: w * h }, (_, index) => `${x + (index % w)},${y + Math.floor(index / w)}`),
  )
  expect(new Set(cells).size).toBe(cells.length)
  expect(panels.every(({ gridPos: { x, w } }) => x + w <= 24)).toBe(true)
})

it('passes the checks of promtool for names of metrics', () => {
  const promtool = join(unpacked(firstPackage('promtool', 'prometheus')), 'usr/bin/promtool')
  expect(execFileSync(promtool, ['check', 'metrics'], { input: text, encoding: 'utf8' })).toBe('')
})

it('exports every series of failures from the start, so that a rate includes the first failure', () => {
  for (const type of ['works', 'fails']) {
    for (const outcome of ['success', 'failure', 'timeout', 'released']) {
      expect(atFirst).toContain(`xqueue_attempts_total{type="${type}",outcome="${outcome}"} 0`)
    }
    expect(atFirst).toContain(`xqueue_task_wait_seconds_count{type="${type}"} 0`)
  }
  expect(atFirst).toContain('xqueue_submissions_total{outcome="refused"} 0')
  expect(atFirst).toContain('xqueue_outages_total{check="storage"} 0')
})

it('exports the metrics of the process under their standard names', () => {
  for (const name of ['process_cpu_seconds_total', 'process_resident_memory_bytes', 'process_open_fds']) {
    expect(exported.has(name)).toBe(true)
  }
})

it('counts submissions by their outcome, and requests by their route', async () => {
  await fetch(`${server.url}/api/v1/tasks`, { method: 'POST' })
  await fetch(`${server.url}/api/v1/tasks/no-id-${Math.random()}`)
  await fetch(`${server.url}/no/such/${Math.random()}`)
  const counted = (await server.get('/metrics')).body
  expect(counted).toContain('xqueue_submissions_total{outcome="accepted"} 2')
  expect(counted).toContain('xqueue_submissions_total{outcome="refused"} 1')
  expect(counted).toContain('xqueue_http_requests_total{method="POST",route="/api/v1/tasks",status="201"} 2')
  expect(counted).toContain('xqueue_http_requests_total{method="GET",route="/api/v1/tasks/:id",status="404"} 1')
  expect(counted).toContain('xqueue_http_requests_total{method="none",route="none",status="404"} 1')
})
