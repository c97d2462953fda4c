/** A call in the OpenAPI document: its name in generated clients, its section, and an example. */
export interface Operation {
  /** The name of the function in a generated client. */
  id: string
  tag: keyof typeof TAGS
  /** Example of a valid body. */
  request?: object
  /** Example of its answer with the first success status. */
  answer?: unknown
}

export const TAGS = {
  Tasks: 'Submit tasks, list them, cancel and retry them.',
  Batches: 'Tasks that were submitted under one name.',
  Types: 'Task types with their figures, limits and rates.',
  Schedules: 'Recurring tasks.',
  Leases: 'Workers in any language: take tasks and report outcomes.',
  Events: 'Status changes as they happen.',
  Session: 'The current caller, and the login of pages.',
  Keys: 'List and revoke keys and sessions.',
  System: 'Health, statistics and metrics.',
} as const

const id = '0193a3c1-7c00-7000-8000-000000000001'
const worker_id = 'host-1-4242'
const [created_at, started_at, completed_at] = ['01', '02', '04'].map((second) => `2030-01-31T12:00:${second}.000Z`)

const pending = {
  ...{ id, type: 'example', payload: { duration: 2 }, priority: 0, status: 'pending', attempts: 0, deliveries: 0 },
  ...{ max_retry: 3, queue_timeout: 600, process_timeout: 300, timeout_reason: null },
  ...{ created_at, run_at: created_at, started_at: null, updated_at: created_at, completed_at: null, worker_id: null },
  ...{ progress: null, result: null, error: null, tags: {}, idempotency_key: null, group: null, uses: {} },
  ...{ after: [], on_failure: 'cancel', batch: null },
}
const processing = { ...pending, status: 'processing', deliveries: 1, started_at, updated_at: started_at, worker_id }
const success = {
  ...{ ...processing, status: 'success', attempts: 1, progress: 100, result: { waited: 2 } },
  ...{ updated_at: completed_at, completed_at },
}
const canceled = { ...pending, status: 'canceled', updated_at: completed_at, completed_at }
const ceilings = { max_retry: 5, priority: null, queue_timeout: null, process_timeout: 300, payload_bytes: null }
const retention = { success: 3600, failed: 2_592_000, canceled: null, timeout: null }
const percentiles = { p50: 0.004, p95: 0.02, p99: 0.1 }
const type = {
  ...{ type: 'example', pending: 4, delayed: 1, dependent: 0, processing: 2, max_concurrency: 2 },
  ...{
    group_concurrency: null,
    group_turns: 'tasks',
    rate: { max: 100, per: 60 },
    paused: false,
    held_until: null,
    declared: false,
    workers: 1,
  },
  ...{ throughput: 0.5, wait: percentiles, run: percentiles, payload_schema: null, ceilings, retention },
}
const holder = { task_id: id, worker_id, since: started_at, lease_expires_at: completed_at, group: null }
const inTheWay = {
  ...{ name: 'type:example', reason: 'limit_reached', needs: 1, max: 1, in_use: 1 },
  ...{ until: completed_at, holders: [holder] },
}
const limit = {
  ...{ name: 'type:example', max: 2, rate: { max: 100, per: 60 }, paused: false, held_until: null },
  ...{ in_use: 2, waiting: 4 },
}
const upcoming = ['02-01', '02-02', '02-03', '02-04', '02-05'].map((day) => `2030-${day}T02:30:00.000Z`)
const timing = { cron: '30 2 * * *', timezone: 'UTC' }
const schedule = {
  ...{
    id: 'nightly',
    type: 'example',
    payload: { duration: 2 },
    priority: 0,
    group: null,
    uses: {},
    tags: {},
    max_retry: 3,
  },
  ...{ queue_timeout: 600, process_timeout: 300, ...timing, every: null, catch_up: 'one', overlap: 'allow' },
  ...{ paused: false, next_at: upcoming[0], last_at: null, last_task_id: null, created_at, updated_at: created_at },
  upcoming,
}
const session = { access_control: true, name: 'dashboard', scopes: ['read', 'submit'], expires_at: completed_at }
const counted = { count: 3, more: false }
const key = {
  ...{ id: 'k1', kind: 'key', opened_with: null, name: 'dashboard', scopes: ['read', 'submit'], rate: null },
  ...{ created_at, expires_at: null, tokens_valid_from: null },
}
const lease = `${id}.1`

/** By method and path. The server does not start if a documented route is missing here. */
export const OPERATIONS: Readonly<Record<string, Operation>> = {
  'POST /api/v1/tasks': {
    ...{ id: 'submitTask', tag: 'Tasks' },
    ...{ request: { type: 'example', payload: { duration: 2 } }, answer: pending },
  },
  'POST /api/v1/tasks/batch': {
    ...{ id: 'submitTasks', tag: 'Tasks' },
    request: { tasks: [{ type: 'example' }, { type: 'example', after: [0] }] },
    answer: { tasks: [1, 2].map((n) => ({ id: id.slice(0, -1) + n, status: 'pending' })), count: 2 },
  },
  'GET /api/v1/tasks': {
    ...{ id: 'listTasks', tag: 'Tasks', answer: { tasks: [success], count: 1, next_cursor: null } },
  },
  'GET /api/v1/tasks/:id': { id: 'getTask', tag: 'Tasks', answer: success },
  'GET /api/v1/tasks/:id/explain': {
    ...{ id: 'explainTask', tag: 'Tasks' },
    answer: {
      ...{ id, type: 'example', group: null, status: 'pending', reason: 'limit_reached', max_concurrency: 1 },
      ...{ holders: [holder], limits: [inTheWay], ahead: 0, waits_for: [], until: null },
      ...{ successors: [], has_more_successors: false },
    },
  },
  'GET /api/v1/tasks/:id/attempts': {
    ...{ id: 'listAttempts', tag: 'Tasks' },
    answer: {
      attempts: [
        {
          ...{ number: 1, delivery: 1, outcome: 'failed', worker_id, started_at: created_at, ended_at: completed_at },
          error: 'Error: connect ECONNREFUSED 10.0.0.7:25',
        },
      ],
      left_out: 0,
    },
  },
  'GET /api/v1/tasks/:id/logs': {
    ...{ id: 'listLogLines', tag: 'Tasks' },
    answer: {
      lines: [
        {
          ...{ n: 1, delivery: 1, attempt: 1, time: completed_at, level: 'info', message: 'mail sent' },
          fields: { to: 3 },
        },
      ],
      ...{ last: 1, left_out: 0, done: true },
    },
  },
  'DELETE /api/v1/tasks/:id': { id: 'cancelTask', tag: 'Tasks', answer: canceled },
  'POST /api/v1/tasks/:id/purge': { id: 'purgeTask', tag: 'Tasks' },
  'POST /api/v1/tasks/:id/retry': { id: 'retryTask', tag: 'Tasks', answer: pending },
  'POST /api/v1/tasks/cancel': {
    ...{ id: 'cancelTasks', tag: 'Tasks', request: { type: 'example', status: 'pending' }, answer: counted },
  },
  'POST /api/v1/tasks/retry': {
    ...{ id: 'retryTasks', tag: 'Tasks', request: { type: 'example', status: 'failed' }, answer: counted },
  },
  'POST /api/v1/tasks/purge': {
    ...{ id: 'purgeTasks', tag: 'Tasks', request: { type: 'example', status: 'failed' }, answer: counted },
  },
  'GET /api/v1/batches/:batch': {
    ...{ id: 'getBatch', tag: 'Batches' },
    answer: {
      ...{ batch: 'import-7', total: 3, pending: 1, processing: 0, success: 2, failed: 0, canceled: 0, timeout: 0 },
      ...{ removed: 0, progress: 66.6, done: false },
    },
  },
  'DELETE /api/v1/batches/:batch': { id: 'cancelBatch', tag: 'Batches', answer: { count: 1 } },
  'POST /api/v1/batches/:batch/retry': { id: 'retryBatch', tag: 'Batches', answer: { count: 1 } },
  'POST /api/v1/handlers': {
    ...{ id: 'declareHandlers', tag: 'Leases', answer: { handlers: ['email'], count: 1 } },
    request: { handlers: [{ type: 'email', concurrency: 5, rate: { max: 100, per: '1m' }, retry: { base: '2s' } }] },
  },
  'GET /api/v1/handlers': { id: 'listHandlers', tag: 'Types', answer: { handlers: ['email', 'example'], count: 2 } },
  'GET /api/v1/types': { id: 'listTypes', tag: 'Types', answer: { types: [type], count: 1 } },
  'POST /api/v1/types/:type': {
    ...{ id: 'setType', tag: 'Types' },
    request: { ceilings: { process_timeout: '5m', max_retry: 5 }, retention: { success: '1h', failed: '30d' } },
    answer: { ...type, declared: true },
  },
  'POST /api/v1/types/:type/pause': { id: 'pauseType', tag: 'Types', answer: { ...type, paused: true } },
  'POST /api/v1/types/:type/resume': { id: 'resumeType', tag: 'Types', answer: type },
  'POST /api/v1/types/:type/rate': { id: 'setRate', tag: 'Types', request: { max: 100, per: '1m' }, answer: type },
  'GET /api/v1/concurrency': {
    ...{ id: 'listLimits', tag: 'Types', answer: { limits: { example: 2 }, in_use: { example: 1 }, count: 1 } },
  },
  'GET /api/v1/concurrency/:type': {
    ...{ id: 'getLimit', tag: 'Types' },
    answer: {
      ...{ task_type: 'example', max_concurrency: 2, group_concurrency: null, group_turns: 'tasks', rate: null },
      ...{ in_use: 1, waiting: 4, paused: false, held_until: null, holders: [holder] },
    },
  },
  'POST /api/v1/concurrency': {
    ...{ id: 'setLimit', tag: 'Types', request: { task_type: 'example', max_concurrency: 2 } },
    answer: { task_type: 'example', max_concurrency: 2 },
  },
  'GET /api/v1/limits': { id: 'listAllLimits', tag: 'Types', answer: { limits: [limit], count: 1 } },
  'GET /api/v1/limits/:name': {
    id: 'describeLimit',
    tag: 'Types',
    answer: { ...limit, holders: [holder], waiters: [id] },
  },
  'PUT /api/v1/limits/:name': {
    ...{ id: 'updateLimit', tag: 'Types', request: { max: 2, rate: { max: 100, per: '1m' } }, answer: limit },
  },
  'DELETE /api/v1/limits/:name': { id: 'removeLimit', tag: 'Types', answer: { ...limit, max: null, rate: null } },
  'POST /api/v1/limits/:name/hold': {
    ...{ id: 'holdLimit', tag: 'Types', request: { for: '20s' }, answer: { ...limit, held_until: completed_at } },
  },
  'POST /api/v1/limits/:name/pause': { id: 'pauseLimit', tag: 'Types', answer: { ...limit, paused: true } },
  'POST /api/v1/limits/:name/resume': { id: 'resumeLimit', tag: 'Types', answer: limit },
  'POST /api/v1/schedules': {
    ...{ id: 'addSchedule', tag: 'Schedules', answer: schedule },
    request: { id: 'nightly', type: 'example', payload: { duration: 2 }, ...timing },
  },
  'POST /api/v1/schedules/preview': {
    ...{ id: 'previewSchedule', tag: 'Schedules', request: timing, answer: { upcoming } },
  },
  'GET /api/v1/schedules': { id: 'listSchedules', tag: 'Schedules', answer: { schedules: [schedule], count: 1 } },
  'GET /api/v1/schedules/:id': { id: 'getSchedule', tag: 'Schedules', answer: schedule },
  'PATCH /api/v1/schedules/:id': {
    ...{ id: 'changeSchedule', tag: 'Schedules', request: { paused: true } },
    answer: { ...schedule, paused: true, upcoming: [] },
  },
  'DELETE /api/v1/schedules/:id': { id: 'removeSchedule', tag: 'Schedules', answer: schedule },
  'POST /api/v1/schedules/:id/run': {
    ...{ id: 'runSchedule', tag: 'Schedules', answer: { ...schedule, last_at: created_at, last_task_id: id } },
  },
  'POST /api/v1/tasks/wait': {
    ...{ id: 'waitForTasks', tag: 'Tasks', request: { ids: [id], wait: '30s' } },
    answer: `${JSON.stringify({ id, status: 'success' })}\n`,
  },
  'POST /api/v1/tasks/consume': {
    ...{ id: 'consumeTasks', tag: 'Leases', request: { types: ['example'], max: 1, wait: '20s', worker_id } },
    answer: { leases: [{ lease, expires_at: completed_at, task: processing, predecessors: [] }] },
  },
  'POST /api/v1/tasks/turn': {
    ...{ id: 'takeTurn', tag: 'Leases' },
    request: {
      ...{ types: ['example'], max: 2, worker_id, renewals: [{ lease: `${id}.3`, progress: 40 }] },
      outcomes: [
        { lease, result: { waited: 2 } },
        { lease: `${id}.2`, error: 'no such address', retry: false },
      ],
    },
    answer: {
      outcomes: [{ status: 'success' }, { status: 'failed' }],
      renewals: [{ expires_at: completed_at, cancel_requested: false }],
      leases: [{ lease, expires_at: completed_at, task: processing, predecessors: [] }],
    },
  },
  'GET /api/v1/leases/:lease/predecessors/:id': {
    ...{ id: 'getPredecessor', tag: 'Leases' },
    answer: { id, type: 'example', status: 'success', result: { waited: 2 }, error: null },
  },
  'POST /api/v1/leases/:lease/complete': {
    ...{ id: 'completeTask', tag: 'Leases', request: { result: { waited: 2 } }, answer: { status: 'success' } },
  },
  'POST /api/v1/leases/:lease/fail': {
    ...{ id: 'failTask', tag: 'Leases', request: { error: 'no such address', retry: false } },
    answer: { status: 'failed' },
  },
  'POST /api/v1/leases/:lease/heartbeat': {
    ...{ id: 'renewLease', tag: 'Leases', request: { progress: 40 } },
    answer: { expires_at: completed_at, cancel_requested: false },
  },
  'GET /api/v1/events': {
    ...{ id: 'streamEvents', tag: 'Events' },
    answer: `event: status\nid: 42\ndata: {"event_id":"42","task_id":"${id}","status":"success"}\n\n`,
  },
  'POST /api/v1/subscriptions': {
    ...{ id: 'createSubscription', tag: 'Events', request: { task_ids: [id], ttl: '1h' } },
    answer: {
      ...{ url: 'wss://queue.example.com/mqtt', topics: [`xqueue/tasks/${id}`], username: 'subscription' },
      ...{ password: 'eyJ…', expires_at: completed_at },
    },
  },
  'GET /api/v1/session': { id: 'getSession', tag: 'Session', answer: session },
  'POST /api/v1/session': { id: 'logIn', tag: 'Session', request: { key: 'xq_…' }, answer: session },
  'DELETE /api/v1/session': { id: 'logOut', tag: 'Session' },
  'GET /api/v1/keys': { id: 'listKeys', tag: 'Keys', answer: { keys: [key], count: 1 } },
  'DELETE /api/v1/keys/:id': { id: 'revokeKey', tag: 'Keys', answer: key },
  'DELETE /api/v1/keys/:id/tokens': { id: 'revokeTokens', tag: 'Keys', answer: key },
  'GET /api/v1/stats': {
    ...{ id: 'getStats', tag: 'System' },
    answer: {
      ...{ pending_tasks: 4, processing_tasks: 2, success_tasks: 90, failed_tasks: 1, canceled_tasks: 0 },
      ...{
        timeout_tasks: 0,
        delayed_tasks: 1,
        dependent_tasks: 0,
        ready_tasks: 3,
        runnable_tasks: 5,
        total_workers: 1,
      },
      ...{
        active_workers: 1,
        processed_tasks: 91,
        failed_tasks_count: 1,
        stream_info: { length: 6, groups: 1 },
        concurrency_limits: { example: 2 },
      },
      ...{ throughput: 0.5, instance_id: 'host-1-4242', is_running: true, uptime: 3600 },
    },
  },
  'GET /api/v1/stats/history': {
    ...{ id: 'getHistory', tag: 'System' },
    answer: {
      ...{ range: '1h', slot: 10 },
      slots: [
        {
          ...{ at: created_at, submitted: 12, started: 11, success: 10, failed: 1, canceled: 0, timeout: 0, errors: 2 },
          ...{ wait: { p50: 0.008, p95: 0.032, p99: 0.032 }, run: { p50: 0.25, p95: 1, p99: 1 } },
        },
      ],
    },
  },
  'GET /api/v1/health': {
    ...{ id: 'getHealth', tag: 'System' },
    answer: {
      ...{
        status: 'healthy',
        timestamp: completed_at,
        version: '0.1.0',
        engine: 'sqlite',
        durability: 'loss of power',
        uptime: 3600,
      },
      checks: [{ name: 'engine', ok: true, detail: 'xqueue.db' }],
    },
  },
  'GET /api/v1/live': { id: 'getLiveness', tag: 'System', answer: { status: 'alive' } },
  'GET /api/v1/stream': {
    ...{ id: 'getStream', tag: 'System' },
    answer: {
      stream_info: {
        ...{ length: 6, groups: 1, consumers: [{ name: worker_id, pending: 2, idle: 0.1 }] },
        streams: [{ name: 'example', length: 6 }],
      },
    },
  },
  'GET /api/v1/workers': {
    ...{ id: 'listWorkers', tag: 'System' },
    answer: {
      ...{ total_workers: 1, active_workers: 1, processed_tasks: 91, failed_tasks: 1, uptime: 3600 },
      workers: [
        {
          ...{ id: worker_id, host: 'host-1', pid: 4242, types: ['example'], concurrency: 10, running: 2 },
          ...{ started_at: created_at, last_seen: completed_at },
        },
      ],
    },
  },
  'GET /metrics': { id: 'getMetrics', tag: 'System', answer: 'xqueue_tasks_pending{type="example"} 4\n' },
}
