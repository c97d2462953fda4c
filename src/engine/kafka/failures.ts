import { AuthenticationError } from '@platformatic/kafka'
import { XQueueError } from '../../task/errors.ts'
import type { KafkaUrl } from './kafka-url.ts'

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

const TOO_LARGE: readonly string[] = ['MESSAGE_TOO_LARGE', 'RECORD_LIST_TOO_LARGE']

/** The error for the caller. It names hosts and ports, never a password. */
export function failureOf(error: unknown, { brokers }: KafkaUrl): XQueueError {
  if (error instanceof XQueueError) return error
  const all = [...within(error)]
  const where = `Kafka at ${brokers.join(', ')}`
  const name = all.map(nameOf).find((id) => id !== undefined && id in REMEDIES)
  // What is around the innermost one tells how often it was tried.
  const because = all.at(-1)?.message || 'no reason is given'
  const detail = name ? `${where} refuses: ${REMEDIES[name]} (${name})` : `${where} cannot be reached (${because})`
  return new XQueueError('engine_unavailable', detail, { retry_after: 1 }, { cause: error })
}

/** Whether Kafka refused a record for its size: it will never take it. */
export function isTooLarge(error: unknown): boolean {
  return [...within(error)].some((one) => TOO_LARGE.includes(nameOf(one) ?? ''))
}

/** An error and all that led to it, the innermost last. */
function* within(error: unknown): Generator<Error> {
  if (!(error instanceof Error)) {
    yield new Error(String(error))
    return
  }
  yield error
  if (error instanceof AggregateError) for (const one of error.errors) yield* within(one)
  if (error.cause !== undefined) yield* within(error.cause)
}

/** As the protocol calls it; a login that is refused before there is any protocol has no name there. */
function nameOf(error: Error): string | undefined {
  if (error instanceof AuthenticationError) return 'SASL_AUTHENTICATION_FAILED'
  return (error as Error & { apiId?: string }).apiId
}
