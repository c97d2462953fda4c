import { findErrorBy, MultipleErrors } from '@platformatic/kafka'
import { XQueueError } from '../../task/errors.ts'
import type { KafkaPlace } from './place.ts'

/** What a refusal of Kafka means, and the way out; by the name that the protocol has for it. */
const REMEDIES: Readonly<Record<string, string>> = {
  SASL_AUTHENTICATION_FAILED: 'the user or the password is refused: mend the URL',
  UNSUPPORTED_SASL_MECHANISM: 'the brokers do not speak this mechanism: mend sasl= in the URL',
  ILLEGAL_SASL_STATE: 'the brokers want no SASL here: take user, password and sasl= out of the URL, or use their port',
  TOPIC_AUTHORIZATION_FAILED: 'the user may not do this with its topics: give it what docs/kafka.md lists',
  GROUP_AUTHORIZATION_FAILED: 'the user may not join the group: give it what docs/kafka.md lists',
  CLUSTER_AUTHORIZATION_FAILED: 'the user may not write idempotently: give it what docs/kafka.md lists',
  TOPIC_DELETION_DISABLED: 'the brokers do not delete topics: set delete.topic.enable',
  POLICY_VIOLATION: 'a policy of the brokers forbids it: see their log',
  INVALID_REPLICATION_FACTOR: 'there are fewer brokers than copies asked for: lower replication= in the URL',
  NOT_ENOUGH_REPLICAS: 'fewer replicas are in sync than min.insync.replicas asks for: bring brokers back',
  NOT_ENOUGH_REPLICAS_AFTER_APPEND: 'fewer replicas are in sync than min.insync.replicas asks for: bring brokers back',
  MESSAGE_TOO_LARGE: 'the topic takes no record of this size: raise its max.message.bytes',
  RECORD_LIST_TOO_LARGE: 'the topic takes no record of this size: raise its max.message.bytes',
}

/** The error for the caller. It names hosts and ports, never a password. */
export function failureOf(error: unknown, { brokers }: KafkaPlace): XQueueError {
  if (error instanceof XQueueError) return error
  const because = reasonOf(error)
  const where = `Kafka at ${brokers.join(', ')}`
  const isLogin = findErrorBy(error as Error, 'code', 'PLT_KFK_AUTHENTICATION') !== null
  const named = Object.keys(REMEDIES).find((id) => findErrorBy(error as Error, 'apiId', id))
  const name = named ?? (isLogin ? 'SASL_AUTHENTICATION_FAILED' : undefined)
  const detail = name ? `${where} refuses: ${REMEDIES[name]} (${name})` : `${where} cannot be reached (${because})`
  return new XQueueError('engine_unavailable', detail, { retry_after: 1 }, { cause: error })
}

/** The innermost reason: what is around it tells how often it was tried. */
function reasonOf(error: unknown): string {
  if (error instanceof MultipleErrors || error instanceof AggregateError) {
    const last = error.errors.at(-1)
    return last === undefined ? error.message : reasonOf(last)
  }
  if (!(error instanceof Error)) return String(error)
  return error.cause instanceof Error ? reasonOf(error.cause) : error.message || error.name
}
