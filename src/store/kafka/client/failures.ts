import { AuthenticationError } from '@platformatic/kafka'
import { XQueueError } from '../../../task/errors.ts'
import type { KafkaUrl } from './kafka-url.ts'

/** The meaning of Kafka's refusals, and the remedy, by their names in the protocol. */
const REMEDIES: Readonly<Record<string, string>> = {
  SASL_AUTHENTICATION_FAILED: 'the user or the password is wrong: correct the URL',
  UNSUPPORTED_SASL_MECHANISM: 'the brokers do not support this mechanism: correct sasl= in the URL',
  ILLEGAL_SASL_STATE:
    'the brokers accept no SASL here: remove user, password and sasl= from the URL, or use their SASL port',
  TOPIC_AUTHORIZATION_FAILED: 'the user lacks permissions for its topics: grant those that docs/kafka.md lists',
  GROUP_AUTHORIZATION_FAILED: 'the user may not join the group: grant the permissions that docs/kafka.md lists',
  CLUSTER_AUTHORIZATION_FAILED: 'the user may not write idempotently: grant the permissions that docs/kafka.md lists',
  TOPIC_DELETION_DISABLED: 'the brokers do not allow the deletion of topics: set delete.topic.enable',
  POLICY_VIOLATION: 'a policy of the brokers forbids it: check their log',
  INVALID_REPLICATION_FACTOR: 'there are fewer brokers than requested copies: lower replication= in the URL',
  NOT_ENOUGH_REPLICAS: 'fewer replicas are in sync than min.insync.replicas requires: restart missing brokers',
  NOT_ENOUGH_REPLICAS_AFTER_APPEND:
    'fewer replicas are in sync than min.insync.replicas requires: restart missing brokers',
  MESSAGE_TOO_LARGE: 'the record exceeds the size limit of the topic: raise its max.message.bytes',
  RECORD_LIST_TOO_LARGE: 'the record exceeds the size limit of the topic: raise its max.message.bytes',
}

const TOO_LARGE: readonly string[] = ['MESSAGE_TOO_LARGE', 'RECORD_LIST_TOO_LARGE']

/** The error for the caller. It names hosts and ports, never a password. */
export function failureOf(error: unknown, { brokers }: KafkaUrl): XQueueError {
  if (error instanceof XQueueError) return error
  const all = [...within(error)]
  const where = `Kafka at ${brokers.join(', ')}`
  const name = all.map(nameOf).find((id) => id !== undefined && id in REMEDIES)
  // The outer errors only report the number of attempts.
  const because = all.at(-1)?.message || 'no reason given'
  const detail = name ? `${where} refuses: ${REMEDIES[name]} (${name})` : `${where} cannot be reached (${because})`
  return new XQueueError('engine_unavailable', detail, { retry_after: 1 }, { cause: error })
}

/** Whether Kafka refused a record for its size: it will never accept it. */
export function isTooLarge(error: unknown): boolean {
  return [...within(error)].some((one) => TOO_LARGE.includes(nameOf(one) ?? ''))
}

/** An error and all of its causes, the innermost last. */
function* within(error: unknown): Generator<Error> {
  if (!(error instanceof Error)) {
    yield new Error(String(error))
    return
  }
  yield error
  if (error instanceof AggregateError) for (const one of error.errors) yield* within(one)
  if (error.cause !== undefined) yield* within(error.cause)
}

/** The name of an error in the protocol; a login that is refused before the protocol starts has no name there. */
function nameOf(error: Error): string | undefined {
  if (error instanceof AuthenticationError) return 'SASL_AUTHENTICATION_FAILED'
  return (error as Error & { apiId?: string }).apiId
}
