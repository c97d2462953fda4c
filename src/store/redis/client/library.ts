import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { luaConstants } from '../records/keys.ts'
import type { RedisUrl } from './redis-url.ts'

/**
 * The atomic steps: the folder of each and its flag. Each is a Lua file whose header has its arguments, answer and
 * cost. Flags: `no-writes` changes nothing; `allow-oom` runs even when Redis has no memory left, because it frees more
 * than it takes. The others are refused then before they change anything.
 */
const STEPS = {
  submit: ['submit', null],
  turn: ['turn', 'allow-oom'],
  change: ['change', 'allow-oom'],
  erase: ['change', 'allow-oom'],
  rewrite: ['change', 'allow-oom'],
  sweep: ['due', 'allow-oom'],
  configure: ['types', null],
  types: ['types', 'no-writes'],
  rates: ['types', 'allow-oom'],
  history: ['types', 'allow-oom'],
  history_of: ['inspect', 'no-writes'],
  get: ['scan', 'no-writes'],
  attempts: ['scan', 'no-writes'],
  logs: ['scan', 'no-writes'],
  scan: ['scan', 'no-writes'],
  inspect: ['inspect', 'no-writes'],
  who: ['inspect', 'no-writes'],
  successors: ['inspect', 'no-writes'],
  ahead: ['scan', 'no-writes'],
  events: ['events', 'allow-oom'],
  partitions: ['client', 'allow-oom'],
  locate: ['recovery', 'no-writes'],
  restore: ['recovery', null],
  restoring: ['recovery', 'allow-oom'],
  calls: ['documents', 'allow-oom'],
  documents: ['documents', 'allow-oom'],
  submit_with: ['submit', null],
  deliver: ['due', 'allow-oom'],
  delivered: ['due', 'allow-oom'],
  batch: ['scan', 'no-writes'],
  count_successors: ['submit', 'no-writes'],
  back_offs: ['types', 'no-writes'],
  outcome: ['scan', 'no-writes'],
  limits: ['limits', 'no-writes'],
  limit: ['limits', null],
  limit_facts: ['limits', 'allow-oom'],
  limit_home: ['limits', 'allow-oom'],
  partition_count: ['client', 'allow-oom'],
} as const
export type StepName = keyof typeof STEPS
/** The part that all steps share, in `records/`. */
const SHARED = [
  'shared',
  'rare',
  'outbox',
  'results',
  'rules',
  'lanes',
  'types',
  'tasks',
  'leases',
  'payloads',
  'attempts',
  'logs',
  'names',
  'partition-messages',
  'index',
  'done',
  'ready',
  'limit-uses',
  'limits',
  'group-permits',
  'shared-time',
  'groups',
  'limit-lanes',
  'limit-settings',
  'groups-before',
  'changes',
  'outcomes',
  'flows',
  'cascades',
]
/** Files that are placed before a step's own, which would otherwise be too long for one file. */
const PARTS: Partial<Record<StepName, readonly string[]>> = {
  sweep: [
    'sweep-rest',
    'sweep-finished',
    'sweep-waits',
    'sweep-index',
    'sweep-forget',
    'sweep-types',
    'sweep-limits',
    'sweep-events',
  ],
  submit: ['submit-read'],
  turn: ['turn-leases', 'turn-start', 'turn-order', 'turn-groups', 'turn-waits', 'turn-claims'],
}
const HARMLESS: ReadonlySet<StepName> = new Set([
  'history_of',
  'get',
  'attempts',
  'logs',
  'scan',
  'inspect',
  'who',
  'successors',
  'ahead',
  'events',
  'rewrite',
  'partitions',
  'locate',
  'restore',
  'restoring',
  // A repeated call makes a rate stricter for one window; a failed call would be worse.
  'calls',
  'documents',
  'deliver',
  'delivered',
  'batch',
  'count_successors',
  'back_offs',
  'types',
  'outcome',
  'limits',
  'limit_facts',
  'limit_home',
  'partition_count',
])

/** Whether a repeated run does no harm, so that the step may run again when its answer was lost. */
export function isHarmless(step: StepName): boolean {
  return HARMLESS.has(step)
}

/** All steps as one library of Redis functions. */
export interface Library {
  text: string
  /** Functions and library are named by their content: two versions of the program can share one Redis. */
  name: string
  functionOf(step: StepName): string
}

const LIBRARY_PREFIX = 'xq_'

export function loadLibrary(url: RedisUrl): Library {
  const read = (folder: string, file: string) =>
    readFileSync(new URL(`../${folder}/${file}.lua`, import.meta.url), 'utf8')
  const steps = (Object.keys(STEPS) as StepName[]).map((step) => {
    const [folder] = STEPS[step]
    const files = [...(PARTS[step] ?? []), step]
    return `do\n${files.map((file) => read(folder, file)).join('\n')}end\n`
  })
  const body = nameConstants([...SHARED.map((file) => read('records', file)), ...steps].join('\n'), luaConstants(url))
  const name = LIBRARY_PREFIX + createHash('sha1').update(body).digest('hex').slice(0, 12)
  const functionOf = (step: StepName) => `${name}_${step}`
  const registrations = Object.entries(STEPS).map(([step, [, flag]]) => {
    const flags = flag === null ? '' : `'${flag}'`
    const callback = `function(keys, args) return steps.${step}(begin(keys, args)) end`
    const called = functionOf(step as StepName)
    return `redis.register_function{ function_name = '${called}', callback = ${callback}, flags = { ${flags} } }`
  })
  return { text: `#!lua name=${name}\n${body}\n${registrations.join('\n')}\n`, name, functionOf }
}

/** Replaces the named constants of the files (`KEY.leases`, `WORKERS`) by their values. */
function nameConstants(text: string, constants: ReadonlyMap<string, string>): string {
  return text.replace(/\b(?:KEY|CHANNEL)\.\w+|\b[A-Z][A-Z_]+\b/g, (name) => constants.get(name) ?? name)
}
