import { fastify } from 'fastify'
import { AJV_OPTIONS } from '../src/server/fastify-instance.ts'
import { Type } from '../src/task/json-schema.ts'
import { TaskInputSchema } from '../src/task/task-input.ts'

/** What HTTP and validation cost alone: the same bodies, the same schemas, an answer of the same kind, and no queue. */
const server = fastify({ ajv: { customOptions: AJV_OPTIONS }, bodyLimit: 16 * 1024 * 1024 })
server.post('/api/v1/tasks', { schema: { body: TaskInputSchema } }, async (request, reply) =>
  reply.status(201).send(request.body),
)
const batch = Type.Object({ tasks: Type.Array(TaskInputSchema) }, { additionalProperties: false })
server.post('/api/v1/tasks/batch', { schema: { body: batch } }, async (request, reply) => {
  const { tasks } = request.body as { tasks: unknown[] }
  return reply.status(201).send({ tasks: tasks.map((_, id) => ({ id, status: 'pending' })), count: tasks.length })
})
let page: unknown
server.put('/page', async (request, reply) => {
  page = request.body
  return reply.status(204).send()
})
server.get('/api/v1/tasks', async (_request, reply) => reply.send(page))
process.stderr.write(`listening on ${await server.listen({ port: 0 })}\n`)
process.on('SIGTERM', () => process.exit(0))
