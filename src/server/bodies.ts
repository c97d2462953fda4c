import { isUtf8 } from 'node:buffer'
import type { FastifyInstance } from 'fastify'
import { invalidField, shortPath, XQueueError } from '../task/errors.ts'
import { faultInText, prototypeFieldIn, readMarked } from '../task/json.ts'

const BYTE_ORDER_MARK = 0xfeff
const CHARSET = /;\s*charset\s*=\s*"?([^\s;"]{1,40})/i
/** ASCII is a part of it. */
const UTF8 = /^(?:utf-?8|us-ascii)$/i

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Repairs unpaired surrogates in the body instead of refusing them, so that a handler's result is not lost. */
    repairsText?: boolean
    /** Marks numbers that would change instead of refusing the body, so that only their item is refused. */
    marksNumbers?: boolean
  }
}

/**
 * Parses JSON bodies. Refuses, with the path, numbers that would change and text that is not Unicode. An empty body
 * with a JSON content type, as for `POST …/retry`, counts as `{}`.
 */
export function readBodies(server: FastifyInstance): void {
  const parse = server.getDefaultJsonParser('error', 'error')
  server.removeContentTypeParser(['application/json', 'text/plain'])
  server.addContentTypeParser('application/json', { parseAs: 'buffer' }, (request, bytes, done) => {
    if (bytes.length === 0) return done(null, {})
    const charset = CHARSET.exec(request.headers['content-type'] ?? '')?.[1]
    if (charset !== undefined && !UTF8.test(charset)) {
      return done(new XQueueError('invalid_request', `the body is ${charset}: encode its JSON as UTF-8`))
    }
    const encoding = request.headers['content-encoding']
    if (encoding !== undefined && encoding.toLowerCase() !== 'identity') return done(encoded(encoding))
    if (!isUtf8(bytes as Buffer)) {
      return done(new XQueueError('invalid_request', 'the body is not valid UTF-8: encode its JSON as UTF-8'))
    }
    const decoded = bytes.toString()
    const text = decoded.charCodeAt(0) === BYTE_ORDER_MARK ? decoded.slice(1) : decoded
    const { repairsText = false, marksNumbers = false } = request.routeOptions.config
    const fault = faultInText(text, { strings: !repairsText })
    if (fault && marksNumbers && fault.path !== '') {
      return parse(request, text, (error) => done(error && unreadable(text), error ? undefined : readMarked(text)))
    }
    if (fault)
      return done(fault.path === '' ? whole(fault.message) : invalidField(shortPath(fault.path), fault.message))
    parse(request, text, (error, value) => done(error && unreadable(text), value))
  })
}

function whole(message: string): XQueueError {
  return new XQueueError('invalid_request', `the body ${message}`)
}

function encoded(encoding: string): XQueueError {
  const detail = `the body has Content-Encoding ${encoding.slice(0, 40)}: send it uncompressed, without this header`
  return new XQueueError('unsupported_media_type', detail)
}

/** Invalid JSON, or JSON with names that would reach the prototype of an object. */
function unreadable(text: string): XQueueError {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    // Without the surrounding text: it may contain a key, and a refusal may be logged.
    const why = (error as Error).message.replace(/, (?:\.\.\.)?".*$/s, '')
    return new XQueueError('invalid_request', `the body is not valid JSON: ${why}`)
  }
  const remedy = 'programs could take it for the prototype of an object: rename it'
  const path = prototypeFieldIn(value)
  if (path === null) return whole(`has a field __proto__, or constructor.prototype: ${remedy}`)
  return invalidField(shortPath(path), `is not allowed as a name, because ${remedy}`)
}
