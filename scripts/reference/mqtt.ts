import type { Interests } from '../../src/access/principal.ts'
import { topicsOf } from '../../src/access/subscription.ts'
import { variableOf } from '../../src/config/config.ts'
import { SETTINGS, type Setting } from '../../src/config/settings.ts'
import { BROKER_LIMITS, PATH } from '../../src/notify/broker.ts'
import { propertiesOf } from '../../src/notify/properties.ts'
import { STATES_BYTES_MAX, STATES_MAX } from '../../src/notify/snapshots.ts'
import { fits, type Message, TOPICS, type TopicKind, Topics, WORKER_STATES } from '../../src/notify/topics.ts'
import { QUEUE_DEFAULTS } from '../../src/queue/queue.ts'
import { LimitSchema } from '../../src/server/limits.ts'
import { SHARED } from '../../src/server/openapi.ts'
import { StatsSchema } from '../../src/server/system.ts'
import { EVENT_FIELDS, type TaskEvent } from '../../src/task/event.ts'
import type { LimitState } from '../../src/task/limit-watch.ts'
import { TASK_DEFAULTS, type Task } from '../../src/task/task.ts'
import { typeOf } from './http.ts'
import { block, code, documentOf, table } from './markdown.ts'

const PREFIX = SETTINGS.find(({ name }) => name === 'mqtt-prefix')!.default!
const topics = new Topics(PREFIX)

/** One of each kind, made as the program makes them. */
const EVENT: TaskEvent = {
  id: '1042',
  kind: 'status',
  taskId: '01890a5d-ac96-774b-bcce-b302099a8057',
  type: 'email',
  status: 'failed',
  attempts: 4,
  progress: 50,
  result: null,
  error: 'no such mailbox',
  timeoutReason: null,
  workerId: 'host-4711-0f3a9c1e',
  at: Date.UTC(2026, 0, 31, 12),
}
const LINE = {
  n: 1,
  delivery: 1,
  attempt: 1,
  time: '2026-01-31T12:00:00.000Z',
  level: 'info',
  message: '',
  fields: null,
} as const
const MESSAGES: readonly Message[] = [
  topics.ofLine({ ...TASK_DEFAULTS, id: EVENT.taskId } as unknown as Task, LINE),
  ...topics.ofEvent(EVENT),
  ...topics.ofEvent({ ...EVENT, kind: 'progress', status: 'processing' }),
  topics.ofStats({}),
  topics.ofLimit({ name: 'gpu' } as LimitState),
  topics.ofWorker(EVENT.workerId!, WORKER_STATES.here),
]

const FILTERS: readonly [filter: string, receives: string][] = [
  [topics.task('<id>'), 'the state of one task and its changes'],
  [topics.task('+'), 'the states of all tasks'],
  [topics.progress('<id>'), 'the progress of one task'],
  [`${topics.task('<id>')}/logs`, 'the log of one task'],
  [topics.changesOf('<type>'), 'all changes of one type'],
  [`${PREFIX}/events/+/failed/#`, 'all failures'],
  [`${PREFIX}/events/<type>/failed/#`, 'the failures of one type'],
  [`${PREFIX}/events/+/+/<id>`, 'the changes of one task of any type'],
  [`${PREFIX}/workers/+`, 'the statuses of all workers'],
  [`${PREFIX}/#`, 'everything but logs'],
]

/** Kinds of clients, with the interests of their token; null: everything under the prefix. */
const CLIENTS: readonly [client: string, interests: Interests | null][] = [
  ['any client, with `--auth off`', null],
  ['a key, or a token of an identity provider, with the scope `read`', null],
  ['a subscription token for tasks', { taskIds: ['<id>'] }],
  ['a subscription token for types', { types: ['<type>'] }],
]

const OTHER_SETTINGS = ['auth', 'token-secret', 'tls-cert', 'tls-key', 'redact', 'retention-age']

/** The reference of the status over MQTT, from the tables that the notifier uses. */
export function mqtt(): string {
  return documentOf(
    '# Status over MQTT',
    INTRO,
    '## Topics',
    topicTable(),
    WORDS,
    '## Subscribing',
    filterTable(),
    LATE,
    LOGS,
    '## Fields of a change',
    'The payload on `tasks/<id>`, `tasks/<id>/progress` and `events/…` is an object with these fields:',
    fieldTable(),
    block(JSON.stringify(JSON.parse(topics.ofEvent(EVENT)[0]!.payload()), null, 2), 'json'),
    REMOVED,
    '## Fields of `stats`',
    'The payload is the answer of `GET /api/v1/stats`; `types`, a list with the figures of each type; and `limits`, the ' +
      'first 200 named limits as in `GET /api/v1/limits`:',
    statsTable(),
    'Each type has the fields of `GET /api/v1/types` without `payload_schema`:',
    schemaTable(typeSchema()),
    '## Fields of a limit',
    'The payload on `limits/<name>` is an object with these fields of `GET /api/v1/limits`:',
    schemaTable(limitSchema()),
    LIMITS,
    '## Delivery',
    QUALITY,
    '## Retained messages',
    RETAINED,
    '## MQTT 5 properties',
    PROPERTIES,
    propertyTable(),
    '## Permissions',
    clientTable(),
    LISTENING,
    '## Settings',
    settingTable(),
  )
}

const INTRO = `This page lists the topics, messages and permissions of the live status over MQTT. See [live status](../live.md) for an introduction.

Every topic begins with a prefix: \`${PREFIX}\`, or the value of \`--mqtt-prefix\`. Subscribe at one of two brokers:

- the **embedded broker** (\`--mqtt embedded\`, the default of \`serve\`), with MQTT 5 and 3.1.1 on port ${settingOf('mqtt-port').default}, or over
  WebSocket at \`${PATH}\` of the HTTP server;
- an **external broker** (\`--mqtt mqtt://…\`), to which XQueue publishes with MQTT 5, or with 3.1.1 if the broker does not support 5
  (\`--mqtt-version\` selects one).

Only XQueue publishes. The embedded broker refuses messages of clients with reason code 0x87 (MQTT 5), or acknowledges and drops them
(3.1.1 has no refusal), and logs this once per connection. It has no shared subscriptions, no subscription identifiers and no enhanced
authentication; its CONNACK says so. It respects a client's maximum packet size and omits larger messages.`

const WORDS = `\`<id>\` is the id of a task, \`<type>\` its type, and \`<status>\` one of the six statuses. The id of a worker is the same as in
\`GET /api/v1/workers\`, and the \`<name>\` of a limit as in \`GET /api/v1/limits\`, with \`% / + #\` (and the byte 0) escaped as in
URLs. A process publishes the status of its own worker to an external broker. The embedded broker publishes that of all workers,
including workers over HTTP.`

const LATE = `\`+\` matches one level, and \`#\` at the end matches any number of levels, including none. A filter must begin with \`${PREFIX}/\`; the
embedded broker refuses other filters (\`0x80\`). A subscription to \`${topics.task('<id>')}\` receives the current state of the task at once.
A subscription that matches the topics of all tasks receives the states of the ${number(STATES_MAX)} newest tasks, up to
${number(STATES_BYTES_MAX / 2 ** 20)} MiB; with an external broker, it receives all retained states. From the embedded broker, a filter such as
\`${topics.task('<id>')}/#\` receives changes only.`

const LOGS = `\`${topics.task('<id>')}/logs\` has the lines that the handler of a task logs, about a second after they were written: first the
kept ones, then each new one. The payload is a line as in \`GET /api/v1/tasks/<id>/logs\`. Only the embedded broker sends lines, and only
of tasks that a filter names. A line is sent again when another client subscribes; its \`n\` tells.`

const REMOVED = `An **empty payload** on \`${topics.task('<id>')}\` means that retention or a purge has deleted the task. Values of \`--redact\` paths appear as
\`[redacted]\`. A message that is too large for the external broker is sent without its result and progress, or not at all if it is
still too large.`

const LIMITS = `An **empty payload** means that the limit has been removed. The embedded broker tells each subscription the settings of all limits
first, and then each change within a second, whichever process made it. An external broker tells changes, and all settings when another
process begins to publish.`

const QUALITY = `The quality of service of a message is the lowest of \`--mqtt-qos\`, the table of topics, and the subscription.

- The changes of a task arrive in order, and each one only after the engine has stored it durably.
- **Embedded broker:** each change arrives once per connection, even if several filters match. There are no sessions: a client that
  reconnects subscribes again and receives the current states. The broker disconnects a client that reads nothing for
  ${BROKER_LIMITS.drainMs / 1_000} s, that would miss changes because the outbox was trimmed, or that sends a packet of more than ${BROKER_LIMITS.receivedBytes / 1024} KiB. It accepts at most
  ${number(BROKER_LIMITS.clients)} clients with ${number(BROKER_LIMITS.filters)} filters each.
- **External broker:** each change arrives at least once. One process publishes, and another one continues if it stops. Unacknowledged
  messages are published again with the same \`event_id\`. While the broker is unavailable, up to ${number(QUEUE_DEFAULTS.eventsMax)} events wait. If there are more,
  XQueue publishes the current state of every task instead, with \`event_id\` null.`

const RETAINED = `| topic | embedded broker | external broker |
| --- | --- | --- |
| \`${topics.task('<id>')}\` | read from the engine until the task is deleted | retained (not with \`--mqtt-retain false\`); an empty payload removes it with the task. With MQTT 5, a final state also expires \`--retention-age\` after its publication |
| \`${topics.worker('<id>')}\` | \`${WORKER_STATES.here}\` for each live worker | retained: \`${WORKER_STATES.here}\` when the process has connected, \`${WORKER_STATES.gone}\` when it stops, or by its will when its connection is lost. With MQTT 5, \`${WORKER_STATES.gone}\` expires after \`--retention-age\` |

With an external broker, \`${topics.ofMark().topic}\` is retained as well. If it is missing, the broker is new or has lost its data, and
XQueue publishes all states again.

Nothing else is retained. The flag \`retain\` of a message marks a retained state.`

const PROPERTIES = `Over MQTT 5, each message with a payload to an external broker has these properties, shown for the change above:`

const LISTENING = `Send a key or token as the **password**, with any user name. A key without \`read\`, an invalid or expired key and a missing key are
refused with return code 5; code 3 means that keys cannot be checked at the moment. The connection ends when the key or token
expires or is revoked. Pages of the server itself, over WebSocket, use the session of a logged-in user. Pages of other sites can connect
if \`--mqtt-origins\` names them. Create subscription tokens with \`POST /api/v1/subscriptions\`. An external broker must check passwords
and filters itself: see [security](../security.md#mqtt).`

function topicTable(): string {
  const rows = Object.values<TopicKind>(TOPICS).map(({ path, tells, contentType, qosMax, retain }) => [
    code(`${PREFIX}/${path}`),
    tells,
    contentType === 'application/json' ? 'JSON' : 'text',
    qosMax === 0 ? '0' : '`--mqtt-qos`',
    retain ? 'yes' : 'no',
  ])
  return table(['topic', 'messages', 'payload', 'QoS', 'retained'], rows)
}

/** The topics of a filter, by the function that the broker uses. */
function filterTable(): string {
  const rows = FILTERS.map(([filter, meaning]) => {
    const own = filter.replace('<id>', EVENT.taskId).replace('<type>', EVENT.type)
    if (!topics.allows(own)) throw new Error(`${filter} is not allowed`)
    const matching = MESSAGES.filter((message) => receives(own, message)).map(({ kind }) => code(kind.path))
    if (matching.length === 0) throw new Error(`${filter} matches nothing`)
    return [code(filter), meaning, matching.join(', ')]
  })
  return table(['filter', 'receives', 'topics'], rows)
}

/** Lines of a log are sent only to filters that name its task. */
function receives(filter: string, { kind, topic }: Message): boolean {
  return fits(filter, topic) && (kind.path !== TOPICS.log.path || topics.loggedTaskOf(filter) !== null)
}

/** Fails if the documented fields differ from the actual ones. */
function fieldTable(): string {
  const names = Object.keys(JSON.parse(topics.ofEvent(EVENT)[0]!.payload()))
  if (String(names) !== String(EVENT_FIELDS.map(({ name }) => name))) throw new Error(`events have ${names}`)
  const rows = EVENT_FIELDS.map(({ name, type, is }) => [code(name), type, is])
  return table(['field', 'type', 'meaning'], rows)
}

interface ObjectSchema {
  properties: Record<string, Parameters<typeof typeOf>[0]>
}

function statsTable(): string {
  return schemaTable(StatsSchema as unknown as ObjectSchema)
}

function typeSchema(): ObjectSchema {
  const { properties } = SHARED.find(
    (schema) => '$id' in schema && schema.$id === 'TaskType',
  ) as unknown as ObjectSchema
  const { payload_schema: _, ...others } = properties
  return { properties: others }
}

function limitSchema(): ObjectSchema {
  const { in_use: _, waiting: __, ...settings } = LimitSchema.properties as unknown as ObjectSchema['properties']
  return { properties: settings }
}

function schemaTable({ properties }: ObjectSchema): string {
  const rows = Object.entries(properties).map(([name, schema]) => [
    code(name),
    typeOf(schema),
    schema?.description ?? '',
  ])
  return table(['field', 'type', 'meaning'], rows)
}

function propertyTable(): string {
  const { userProperties, ...properties } = propertiesOf(topics.ofEvent(EVENT)[0]!, retentionMs())
  const rows = Object.entries({ ...properties, ...userProperties }).map(([name, value]) => [
    name in properties ? code(name) : `user property ${code(name)}`,
    code(String(value)),
  ])
  return table(['property', 'value'], rows)
}

function retentionMs(): number {
  return QUEUE_DEFAULTS.retention.ageMs
}

function clientTable(): string {
  const rows = CLIENTS.map(([client, interests]) => {
    const allowed = interests ? topicsOf(interests, PREFIX) : [`${PREFIX}/#`]
    const exactly = allowed.every((topic) => !topic.endsWith('#'))
    const filters = allowed.map(code).join(' and ')
    return [client, exactly ? `only ${filters}` : `${filters} and all topics below`]
  })
  return table(['client', 'allowed filters'], [...rows, ['a key without `read`, or no key', 'none']])
}

function settingTable(): string {
  const rows = SETTINGS.filter(({ name }) => name.startsWith('mqtt') || OTHER_SETTINGS.includes(name)).map(
    (setting: Setting) => [
      code(`--${setting.name}`),
      [variableOf(setting.name), ...setting.aliases].map(code).join(', '),
      setting.default === null ? '' : code(setting.default),
      setting.doc,
    ],
  )
  return table(['setting', 'variables', 'default', 'meaning'], rows)
}

function settingOf(name: string): Setting {
  return SETTINGS.find((setting) => setting.name === name)!
}

function number(value: number): string {
  return value.toLocaleString('en')
}
