import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { Socket } from 'node:net'
import type { Readable } from 'node:stream'
import type { FastifyInstance } from 'fastify'

/**
 * A system resets a connection that is closed with unread bytes, and most clients read no answer before they have
 * written their request: they would see a broken connection in place of a refusal. So the rest of a request is read
 * and dropped for a while. A client that sends nothing for `IDLE_MS` has read the answer, or never will.
 */
const IDLE_MS = 2_000
const TOTAL_MS = 10_000
const BYTES_MAX = 64 * 1024 * 1024

/** Answers that may be sent before their request is read. */
export function lingerAfterAnswers(server: FastifyInstance): void {
  server.addHook('onSend', ({ raw }, reply, _payload, done) => {
    linger(raw, reply.raw)
    done()
  })
  askForBodies(server)
}

/** To be called before the end of an answer: reads what may be missing of its request before the connection closes. */
export function linger(request: IncomingMessage, response: ServerResponse): void {
  const { socket, complete, httpVersionMajor } = request
  // Other kinds of connections cannot be reset.
  if (complete || httpVersionMajor !== 1 || !(socket instanceof Socket)) return
  // Otherwise, Node drops what arrives without telling how much it is.
  request.resume()
  const { destroySoon } = socket
  // Node calls this after the last answer of a connection.
  socket.destroySoon = () => {
    if (request.complete) destroySoon.call(socket)
    else socket.end()
  }
  response.once('finish', () => {
    socket.destroySoon = destroySoon
    if (!request.complete) drop(request, socket)
  })
}

/** Sends the last answer of a connection whose request cannot be parsed. */
export function endUnparsed(socket: Socket, answer: string): void {
  socket.end(answer)
  // Node's parser would fail again at each byte.
  socket.removeAllListeners('data').removeAllListeners('end')
  drop(socket, socket)
}

function drop(rest: Readable, socket: Socket): void {
  const since = performance.now()
  const { bytesRead, server } = socket as Socket & { server?: Server }
  // The close of a server waits for its connections.
  const msMax = () => (server?.listening === false ? IDLE_MS : TOTAL_MS)
  const timer = setTimeout(() => socket.destroy(), IDLE_MS)
  rest.on('data', () => {
    if (socket.bytesRead - bytesRead > BYTES_MAX || performance.now() - since > msMax()) socket.destroy()
    else timer.refresh()
  })
  const stop = () => clearTimeout(timer)
  socket.once('close', stop)
  rest.once('end', () => {
    stop()
    socket.off('close', stop)
    if (!socket.writable) socket.destroySoon()
  })
  rest.resume()
}

/** Clients that wait for it send their body when it is needed: not if the call is refused before. */
function askForBodies(server: FastifyInstance): void {
  const waiting = new WeakSet<ServerResponse>()
  const http = server.server as Server
  http.on('checkContinue', (request, response) => {
    waiting.add(response)
    http.emit('request', request, response)
  })
  server.addHook('preParsing', ({ headers, routeOptions }, { raw }, _payload, done) => {
    const isNeeded = !(Number(headers['content-length']) > (routeOptions.bodyLimit ?? BYTES_MAX))
    if (headers.expect !== undefined && waiting.has(raw) && isNeeded) raw.writeContinue()
    done()
  })
}
