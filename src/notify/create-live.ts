import type { Live, LiveOptions } from './live.ts'

/** The embedded broker, or a client of another broker; only its own library is loaded. */
export async function createLive(options: LiveOptions): Promise<Live> {
  if (options.mqtt !== 'embedded') return new (await import('./notifier.ts')).Notifier(options)
  return new (await import('./broker.ts')).EmbeddedBroker(options)
}
