import { pino } from 'pino'

/** Options for status over MQTT without a server, for a queue of the test. */
export function liveOptions(mqtt: string) {
  return {
    logger: pino({ level: 'silent' }),
    mqtt,
    prefix: 'xqueue',
    qos: 1 as const,
    retain: true,
    clientId: null,
    host: '127.0.0.1',
    port: 0,
    origins: [],
    instanceId: 'test-instance',
    workerId: null,
    retentionMs: 60_000,
    stats: async () => ({ any: 1 }),
    limits: async () => [],
  }
}
