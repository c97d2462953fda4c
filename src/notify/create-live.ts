import { EmbeddedBroker } from './broker.ts'
import type { Live, LiveOptions } from './live.ts'
import { Notifier } from './notifier.ts'

/** The embedded broker, or a client of another broker. */
export function createLive(options: LiveOptions): Live {
  return options.mqtt === 'embedded' ? new EmbeddedBroker(options) : new Notifier(options)
}
