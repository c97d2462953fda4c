import { type TSchema, Type } from 'typebox'
import type { Interests } from '../access/principal.ts'
import { topicsOf } from '../access/subscription.ts'
import { parseDurationMs } from '../task/duration.ts'
import { invalidField, XQueueError } from '../task/errors.ts'
import { durationOf, TypeNameSchema } from '../task/task-input.ts'
import { isoTime } from '../task/task-json.ts'
import { ANSWERS } from './answers.ts'
import type { Route, ServerContext } from './server.ts'

const NAMES_MAX = 100
const TTL_MS = { default: 3_600_000, least: 1_000, most: 86_400_000 }
const TaskId = Type.String({ pattern: '^[^\\s/+#]{1,100}$' })

interface SubscriptionInput {
  task_ids?: string[]
  types?: string[]
  ttl?: number | string
}

/** POST /api/v1/subscriptions: what a page gets from its own server, to listen to its tasks and to nothing else. */
export function subscriptionRoutes({ access, live, hasTls }: ServerContext): Route[] {
  const listOf = (name: TSchema) => Type.Optional(Type.Array(name, { minItems: 1, maxItems: NAMES_MAX }))
  return [
    {
      method: 'POST',
      url: '/api/v1/subscriptions',
      scope: 'read',
      summary: 'A token with which a page may listen to some tasks, or to some types, over MQTT or /api/v1/events',
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
      answers: ANSWERS.subscription,
      refusals: ['access_control_off', 'mqtt_off'],
      handler: async (request, reply) => {
        const input = request.body as SubscriptionInput
        const interests = interestsOf(input)
        if (!access) throw new XQueueError('access_control_off', 'everybody may listen here: subscribe without a token')
        if (!live) throw new XQueueError('mqtt_off', 'this server publishes nothing over MQTT: start it with --mqtt')
        const { url, prefix } = live.subscribeAt
        const topics = topicsOf(interests, prefix)
        const principal = request.principal!
        const expiresAt = Math.min(Date.now() + ttlOf(input), principal.expiresAt ?? Number.POSITIVE_INFINITY)
        const password = await access.signSubscription({ interests, topics, expiresAt }, principal)
        const own = `${hasTls ? 'wss' : 'ws'}://${request.headers.host}/mqtt`
        return reply
          .status(201)
          .send({ url: url ?? own, topics, username: 'subscription', password, expires_at: isoTime(expiresAt) })
      },
    },
  ]
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
