import { connect } from 'node:net'
import type { Duplex } from 'node:stream'
import { connect as connectTls } from 'node:tls'
import { createWebSocketStream, WebSocket } from 'ws'

/** The bytes to and from the broker of a URL; what is written before it is connected waits. */
export function openStream(url: string): Duplex {
  const place = new URL(url)
  const { protocol, port } = place
  const host = place.hostname.replace(/^\[|\]$/g, '')
  switch (protocol) {
    case 'ws:':
    case 'wss:': {
      // User and password are MQTT's, not of HTTP.
      place.username = ''
      place.password = ''
      return createWebSocketStream(new WebSocket(place, ['mqtt'], { perMessageDeflate: false }))
    }
    case 'mqtts:':
    case 'ssl:':
      return connectTls({ host, port: Number(port) || 8883 }).setNoDelay(true)
    default:
      return connect({ host, port: Number(port) || 1883, noDelay: true })
  }
}

/** User and password as they stand in a URL, decoded. */
export function loginOf(url: string): { username?: string; password?: Buffer } {
  const { username, password } = new URL(url)
  if (username === '') return {}
  return { username: decodeURIComponent(username), password: Buffer.from(decodeURIComponent(password)) }
}
