import type { Message } from './topics.ts'

/** What MQTT 5 says of a message beside its payload. */
export interface Properties {
  payloadFormatIndicator: boolean
  contentType: string
  /** In seconds: a last state goes when the store no longer keeps its task. */
  messageExpiryInterval?: number
  userProperties?: Record<string, string>
}

export function propertiesOf({ kind, final, event }: Message, retentionMs: number): Properties {
  return {
    payloadFormatIndicator: true,
    contentType: kind.contentType,
    ...(final ? { messageExpiryInterval: Math.ceil(retentionMs / 1_000) } : {}),
    ...(event
      ? {
          userProperties: {
            event_id: event.id,
            task_id: event.taskId,
            task_type: event.type,
            task_status: event.status,
          },
        }
      : {}),
  }
}
