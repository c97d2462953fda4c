import { isUtf8 } from 'node:buffer'
import type { FastifyInstance } from 'fastify'
import { invalidField, XQueueError } from '../task/errors.ts'
import { faultInText } from '../task/json.ts'

const BYTE_ORDER_MARK = 0xfeff

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Half surrogate pairs in its body are repaired, not refused: what a handler has made is not lost for them. */
    repairsText?: boolean
  }
}

/**
 * Reads JSON bodies. Refused with the path: numbers that would come back as others, text that is no Unicode. An empty
 * body with a JSON content type, as for `POST …/retry`, counts as `{}`.
 */
export function readBodies(server: FastifyInstance): void {
  const parse = server.getDefaultJsonParser('error', 'error')
  server.removeContentTypeParser('application/json')
  server.addContentTypeParser('application/json', { parseAs: 'buffer' }, (request, bytes, done) => {
    if (bytes.length === 0) return done(null, {})
    if (!isUtf8(bytes as Buffer)) {
      return done(new XQueueError('invalid_request', 'the body is not valid UTF-8: encode its JSON as UTF-8'))
    }
    const decoded = bytes.toString()
    const text = decoded.charCodeAt(0) === BYTE_ORDER_MARK ? decoded.slice(1) : decoded
    const { repairsText = false } = request.routeOptions.config
    const fault = faultInText(text, { strings: !repairsText })
    if (fault) return done(fault.path === '' ? whole(fault.message) : invalidField(fault.path, fault.message))
    parse(request, text, (error, value) => done(error && (namesPrototype(text) ?? error), value))
  })
}

function whole(message: string): XQueueError {
  return new XQueueError('invalid_request', `the body ${message}`)
}

/** What the parser refuses although it is JSON: names that would reach the prototype of what they are copied to. */
function namesPrototype(text: string): XQueueError | null {
  try {
    JSON.parse(text)
  } catch {
    return null
  }
  return new XQueueError('invalid_request', 'no field may be named __proto__, or constructor with a prototype in it')
}
