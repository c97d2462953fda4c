import { type Interests, sightOf } from '../access/principal.ts'
import { topicsOf } from '../access/subscription.ts'
import type { Queue } from '../queue/queue.ts'
import { parseDurationMs } from '../task/duration.ts'
import { invalidField, XQueueError } from '../task/errors.ts'
import { type JsonSchema, Type } from '../task/json-schema.ts'
import { durationOf, TypeNameSchema } from '../task/task-input.ts'
import { isoTime } from '../task/task-json.ts'
import { time } from './fields.ts'
import type { Route, ServerContext } from './route.ts'
import { noTask } from './tasks.ts'
import { noType } from './types.ts'

const NAMES_MAX = 100
const NOT_BY_TOPICS =
  'an external broker cannot filter messages by the bounds of this key: use a key with `read` and without ' +
  'groups, or name tasks'
const TTL_MS = { default: 3_600_000, least: 1_000, most: 86_400_000 }
const TaskId = Type.String({ pattern: '^[^\\s/+#]{1,100}$' })

const Subscription = Type.Object({
  url: Type.String(),
  topics: Type.Array(Type.String()),
  username: Type.String(),
  password: Type.String(),
  expires_at: time('Expiry of the token'),
})

interface SubscriptionInput {
  task_ids?: string[]
  types?: string[]
  ttl?: number | string
}

/** POST /api/v1/subscriptions: a token for a page to subscribe to its own tasks only. */
export function subscriptionRoutes({ queue, access, live, types, hasTls, basePath }: ServerContext): Route[] {
  const listOf = (name: JsonSchema) => Type.Optional(Type.Array(name, { minItems: 1, maxItems: NAMES_MAX }))
  return [
    {
      method: 'POST',
      url: '/api/v1/subscriptions',
      scope: 'read',
      summary: 'Create a token for a page to subscribe to some tasks or types, over MQTT or /api/v1/events',
      body: Type.Object(
        {
          task_ids: listOf(TaskId),
          types: listOf(TypeNameSchema),
          ttl: Type.Optional(durationOf({ title: 'TokenLife', ...TTL_MS })),
        },
        {
          additionalProperties: false,
          anyOf: [{ required: ['task_ids'] }, { required: ['types'] }],
          not: { required: ['task_ids', 'types'] },
        },
      ),
      answers: { 201: Subscription },
      refusals: ['access_control_off', 'mqtt_off', 'not_found'],
      handler: async (request, reply) => {
        const input = request.body as SubscriptionInput
        const principal = request.principal!
        const sight = sightOf(principal)
        const interests: Interests = { ...interestsOf(input), ...(sight.isFull ? {} : { isView: true }) }
        if (!access) throw new XQueueError('access_control_off', 'access control is off: subscribe without a token')
        if (!live) throw new XQueueError('mqtt_off', 'MQTT is off: start the server with --mqtt')
        if (sight.bounds) await refuseForeign(queue, types, input)
        // An external broker decides by topics only.
        const isOurs = live.webSocketPath !== null
        if (!isOurs && (!sight.isFull || (sight.bounds?.groups && !input.task_ids))) {
          throw new XQueueError('forbidden', NOT_BY_TOPICS)
        }
        const { url, prefix } = live.subscribeAt
        const topics = topicsOf(interests, prefix)
        const expiresAt = Math.min(Date.now() + ttlOf(input), principal.expiresAt ?? Number.POSITIVE_INFINITY)
        const password = await access.signSubscription({ interests, topics, expiresAt }, principal)
        const own = `${hasTls || request.protocol === 'https' ? 'wss' : 'ws'}://${request.host}${basePath}/mqtt`
        return reply
          .status(201)
          .send({ url: url ?? own, topics, username: 'subscription', password, expires_at: isoTime(expiresAt) })
      },
    },
  ]
}

/** @throws XQueueError `not_found` for tasks and types outside of the caller's bounds */
async function refuseForeign(queue: Queue, types: ServerContext['types'], input: SubscriptionInput): Promise<void> {
  const ids = input.task_ids ?? []
  const tasks = await queue.get(ids, { bare: true })
  const missing = ids.find((_, index) => tasks[index] === null)
  if (missing !== undefined) throw noTask(missing)
  for (const type of input.types ?? []) if ((await types.of(type)) === null) throw noType(type)
}

function interestsOf({ task_ids: taskIds, types }: SubscriptionInput): Interests {
  return taskIds ? { taskIds } : { types: types! }
}

function ttlOf({ ttl }: SubscriptionInput): number {
  if (ttl === undefined) return TTL_MS.default
  const ms = parseDurationMs(ttl)
  if (ms < TTL_MS.least || ms > TTL_MS.most) throw invalidField('ttl', 'must be from 1 second to 24 hours')
  return ms
}
