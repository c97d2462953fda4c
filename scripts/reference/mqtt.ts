import type { Interests } from '../../src/access/principal.ts'
import { topicsOf } from '../../src/access/subscription.ts'
import { variableOf } from '../../src/config/config.ts'
import { SETTINGS, type Setting } from '../../src/config/settings.ts'
import { ENGINE_DEFAULTS } from '../../src/engine/engine.ts'
import { BROKER_LIMITS, PATH } from '../../src/notify/broker.ts'
import { propertiesOf } from '../../src/notify/properties.ts'
import { STATES_BYTES_MAX, STATES_MAX } from '../../src/notify/snapshots.ts'
import { fits, type Message, TOPICS, type TopicKind, Topics, WORKER_STATES } from '../../src/notify/topics.ts'
import { ANSWERS, SHARED } from '../../src/server/answers.ts'
import { EVENT_FIELDS, type TaskEvent } from '../../src/task/event.ts'
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
const MESSAGES: readonly Message[] = [
  ...topics.ofEvent(EVENT),
  ...topics.ofEvent({ ...EVENT, kind: 'progress', status: 'processing' }),
  topics.ofStats({}),
  topics.ofWorker(EVENT.workerId!, WORKER_STATES.here),
]

const FILTERS: readonly [filter: string, hears: string][] = [
  [topics.task('<id>'), 'the state of one task, and its changes'],
  [topics.task('+'), 'the states of all tasks'],
  [topics.progress('<id>'), 'the progress of one task'],
  [topics.changesOf('<type>'), 'all changes of one type'],
  [`${PREFIX}/events/+/failed/#`, 'all failures'],
  [`${PREFIX}/events/<type>/failed/#`, 'the failures of one type'],
  [`${PREFIX}/events/+/+/<id>`, 'the changes of one task, whatever its type'],
  [`${PREFIX}/workers/+`, 'which workers there are'],
  [`${PREFIX}/#`, 'everything'],
]

/** Who listens, and what their token was made for; null: anything under the prefix. */
const LISTENERS: readonly [who: string, interests: Interests | null][] = [
  ['anybody, with `--auth off`', null],
  ['a key, or a token of an identity provider, with the scope `read`', null],
  ['a subscription token for tasks', { taskIds: ['<id>'] }],
  ['a subscription token for types', { types: ['<type>'] }],
]

const OTHER_SETTINGS = ['auth', 'token-secret', 'tls-cert', 'tls-key', 'redact', 'retention-age']

/** What is told over MQTT, by the tables that the notifier works with. */
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
    '## What a change says',
    'On `tasks/<id>`, `tasks/<id>/progress` and `events/…` the payload is this object, with all of these fields:',
    fieldTable(),
    block(JSON.stringify(JSON.parse(topics.ofEvent(EVENT)[0]!.payload()), null, 2), 'json'),
    REMOVED,
    '## What `stats` says',
    'What `GET /api/v1/stats` answers, and `types`, a list with the figures of each type:',
    statsTable(),
    'Of each type, as `GET /api/v1/types` answers but for `payload_schema`:',
    schemaTable(typeSchema()),
    '## Quality of service, order, repetition',
    QUALITY,
    '## What is retained',
    RETAINED,
    '## Properties of MQTT 5',
    PROPERTIES,
    propertyTable(),
    '## Who may subscribe',
    listenerTable(),
    LISTENING,
    '## Settings',
    settingTable(),
  )
}

const INTRO = `Every topic lies under a prefix, \`${PREFIX}\` unless \`--mqtt-prefix\` says otherwise. Where to connect: to the **embedded
broker** (\`--mqtt embedded\`, what \`serve\` does by default) with MQTT 5 and 3.1.1 on port ${settingOf('mqtt-port').default}, or over WebSocket at
\`${PATH}\` of the HTTP server; or to the **broker of your own** that \`--mqtt mqtt://…\` names, to which XQueue publishes with
MQTT 5 or, where that is not known, 3.1.1 (\`--mqtt-version\` forces one). Only XQueue publishes. The embedded broker refuses what
a client publishes with reason code 0x87 (MQTT 5), or acknowledges and drops it (3.1.1, which has no refusal), and logs it
once for each connection. It has no shared subscriptions, no subscription identifiers and no enhanced authentication;
its CONNACK says so. A client's maximum packet size is heeded: larger messages are left out.`

const WORDS = `\`<id>\` is the task's, \`<type>\` its type, \`<status>\` one of the six. A worker's id is as it stands in
\`GET /api/v1/workers\`, with \`% / + #\` (and the byte 0) escaped as in URLs. A process tells of its own worker to a broker of
your own; the embedded one tells of all workers, those over HTTP as well.`

const LATE = `\`+\` stands for one level, \`#\` at the end for any number, none included. A filter must begin with \`${PREFIX}/\`: the embedded broker
refuses any other in its acknowledgement (\`0x80\`). Who subscribes to \`${topics.task('<id>')}\` gets the present state of the task
at once, and who subscribes to a filter that fits every task's topic, those of the ${number(STATES_MAX)} newest tasks, up to
${number(STATES_BYTES_MAX / 2 ** 20)} MiB; with a broker of your own all that it has retained. A filter such as \`${topics.task('<id>')}/#\` hears the changes alone from the embedded broker.`

const REMOVED = `An **empty payload** on \`${topics.task('<id>')}\` says that retention or a purge has removed the task. What \`--redact\` names stands there as
\`[redacted]\`. A message that is too large for the broker of your own goes without its result and progress, or, should
that not do, not at all.`

const QUALITY = `A message is sent with the least of \`--mqtt-qos\`, what the table of topics says and what the subscription asks for.

- The changes of a task come in their order, and each after it was kept by the engine as the engine keeps it.
- **Embedded:** each change once for as long as the connection lasts, however many filters of a client fit. There are no
  sessions: what a client misses while it is not connected is not sent again, it subscribes again and gets the states.
  Who takes nothing for ${BROKER_LIMITS.drainMs / 1_000} s, or would miss changes because the outbox ran over, is cut off, so that it does. At most
  ${number(BROKER_LIMITS.clients)} clients, ${number(BROKER_LIMITS.filters)} filters for each; who sends a packet of more than ${BROKER_LIMITS.receivedBytes / 1024} KiB is cut off.
- **A broker of your own:** each change at least once. One process of all publishes, and another goes on where it stopped;
  what was not acknowledged is published again, so a change may come twice: \`event_id\` is the same then. While the
  broker is away up to ${number(ENGINE_DEFAULTS.eventsMax)} events wait; should there be more, the present state of every task is published
  instead, with \`event_id\` null.`

const RETAINED = `| topic | embedded | a broker of your own |
| --- | --- | --- |
| \`${topics.task('<id>')}\` | looked up in the engine, until retention removes the task | retained (\`--mqtt-retain false\`: not); removed with the task by an empty payload. With MQTT 5 a final state also expires \`--retention-age\` after it was published |
| \`${topics.worker('<id>')}\` | \`${WORKER_STATES.here}\` of the workers that there are | retained in the same way: \`${WORKER_STATES.here}\` when the process has connected, \`${WORKER_STATES.gone}\` when it stops, or by its will when its connection is lost. With MQTT 5 \`${WORKER_STATES.gone}\` expires \`--retention-age\` later |

With a broker of your own also \`${topics.ofMark().topic}\`: without it, the broker is new or was restarted without what it had, and
is given all states again.

Nothing else is retained. A late subscriber knows a state that was retained by the flag \`retain\` of the message.`

const PROPERTIES = `To a broker of your own, where it speaks MQTT 5, each message with a payload has these, here for the change of above:`

const LISTENING = `A key or token is the **password**, whatever the user is called. A key without \`read\`, a wrong or expired one and a missing
one are refused with return code 5; code 3 says that keys cannot be looked up at the moment. The connection ends when the
right to it does. A page of the server itself, over WebSocket, needs no password when somebody has logged in. Pages of
other sites are let in when \`--mqtt-origins\` names them. Get subscription tokens with
\`POST /api/v1/subscriptions\`; a broker of your own must check passwords and filters itself: see
[who may do what](../security.md#mqtt).`

function topicTable(): string {
  const rows = Object.values<TopicKind>(TOPICS).map(({ path, tells, contentType, qosMax, retain }) => [
    code(`${PREFIX}/${path}`),
    tells,
    contentType === 'application/json' ? 'JSON' : 'text',
    qosMax === 0 ? '0' : '`--mqtt-qos`',
    retain ? 'yes' : 'no',
  ])
  return table(['topic', 'tells', 'payload', 'QoS', 'retained'], rows)
}

/** What a filter hears is asked of the function that the broker asks. */
function filterTable(): string {
  const rows = FILTERS.map(([filter, hears]) => {
    const own = filter.replace('<id>', EVENT.taskId).replace('<type>', EVENT.type)
    if (!topics.allows(own)) throw new Error(`${filter} is not allowed`)
    const heard = MESSAGES.filter(({ topic }) => fits(own, topic)).map(({ kind }) => code(kind.path))
    if (heard.length === 0) throw new Error(`${filter} hears nothing`)
    return [code(filter), hears, heard.join(', ')]
  })
  return table(['filter', 'hears', 'topics'], rows)
}

/** Refuses to tell of fields that are not there, or not of those that are. */
function fieldTable(): string {
  const names = Object.keys(JSON.parse(topics.ofEvent(EVENT)[0]!.payload()))
  if (String(names) !== String(EVENT_FIELDS.map(({ name }) => name))) throw new Error(`events have ${names}`)
  const rows = EVENT_FIELDS.map(({ name, type, is }) => [code(name), type, is])
  return table(['field', 'type', 'is'], rows)
}

interface ObjectSchema {
  properties: Record<string, Parameters<typeof typeOf>[0]>
}

function statsTable(): string {
  return schemaTable(ANSWERS.stats[200] as unknown as ObjectSchema)
}

function typeSchema(): ObjectSchema {
  const { properties } = SHARED.find(
    (schema) => '$id' in schema && schema.$id === 'TaskType',
  ) as unknown as ObjectSchema
  const { payload_schema: _, ...told } = properties
  return { properties: told }
}

function schemaTable({ properties }: ObjectSchema): string {
  const rows = Object.entries(properties).map(([name, schema]) => [
    code(name),
    typeOf(schema),
    schema?.description ?? '',
  ])
  return table(['field', 'type', 'is'], rows)
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
  return ENGINE_DEFAULTS.retention.ageMs
}

function listenerTable(): string {
  const rows = LISTENERS.map(([who, interests]) => {
    const allowed = interests ? topicsOf(interests, PREFIX) : [`${PREFIX}/#`]
    const exactly = allowed.every((topic) => !topic.endsWith('#'))
    const what = allowed.map(code).join(' and ')
    return [who, exactly ? `${what}, nothing else` : `${what} and whatever lies under it`]
  })
  return table(['who', 'may subscribe to'], [...rows, ['a key without `read`, and anybody without one', 'nothing']])
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
  return table(['setting', 'variables', 'default', 'is'], rows)
}

function settingOf(name: string): Setting {
  return SETTINGS.find((setting) => setting.name === name)!
}

function number(value: number): string {
  return value.toLocaleString('en')
}
