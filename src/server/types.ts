import type { FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import type { TypeInfo } from '../engine/engine.ts'
import { XQueueError } from '../task/errors.ts'
import { TypeParams } from './schemas.ts'
import type { Route, ServerContext } from './server.ts'
import { holderJson, typeJson } from './task-json.ts'

/** /api/v1/handlers, /types and /concurrency. */
export function typeRoutes({ engine }: ServerContext): Route[] {
  const oneType = async (request: FastifyRequest): Promise<TypeInfo> => {
    const { type } = request.params as { type: string }
    const [info] = await engine.types({ names: [type], holders: true })
    if (!info) throw new XQueueError('not_found', `there is no task type ${JSON.stringify(type)}: see /api/v1/types`)
    return info
  }
  const setPaused = (paused: boolean) => async (request: FastifyRequest) => {
    const { type } = await oneType(request)
    return typeJson(await engine.configureType(type, { paused }))
  }
  return [
    {
      method: 'GET',
      url: '/api/v1/handlers',
      summary: 'The task types that can be submitted',
      handler: async () => {
        const handlers = (await engine.types()).map(({ type }) => type)
        return { handlers, count: handlers.length }
      },
    },
    {
      method: 'GET',
      url: '/api/v1/types',
      summary: 'Each type: what waits, what runs, its limit and its rates',
      handler: async () => {
        const types = (await engine.types()).map(typeJson)
        return { types, count: types.length }
      },
    },
    {
      method: 'POST',
      url: '/api/v1/types/:type/pause',
      summary: 'Accept tasks of a type, start none',
      params: TypeParams,
      handler: setPaused(true),
    },
    {
      method: 'POST',
      url: '/api/v1/types/:type/resume',
      summary: 'Start tasks of a type again',
      params: TypeParams,
      handler: setPaused(false),
    },
    {
      method: 'GET',
      url: '/api/v1/concurrency',
      summary: 'Every limit, and what is in use of it',
      handler: async () => {
        const limited = (await engine.types()).filter(({ maxConcurrency }) => maxConcurrency !== null)
        return {
          limits: Object.fromEntries(limited.map(({ type, maxConcurrency }) => [type, maxConcurrency])),
          in_use: Object.fromEntries(limited.map(({ type, processing }) => [type, processing])),
          count: limited.length,
        }
      },
    },
    {
      method: 'GET',
      url: '/api/v1/concurrency/:type',
      summary: "A type's limit and who holds its permits",
      params: TypeParams,
      handler: async (request) => {
        const { type, maxConcurrency, processing, holders } = await oneType(request)
        return {
          task_type: type,
          max_concurrency: maxConcurrency,
          in_use: processing,
          holders: holders.map(holderJson),
        }
      },
    },
    {
      method: 'POST',
      url: '/api/v1/concurrency',
      summary: "Set a type's limit over all processes; null removes it",
      body: Type.Object(
        {
          task_type: Type.String({ minLength: 1 }),
          max_concurrency: Type.Unsafe<number | null>({ type: ['integer', 'null'], minimum: 1, maximum: 1_000_000 }),
        },
        { additionalProperties: false },
      ),
      handler: async (request) => {
        const { task_type, max_concurrency } = request.body as { task_type: string; max_concurrency: number | null }
        await engine.configureType(task_type, { maxConcurrency: max_concurrency })
        return { task_type, max_concurrency }
      },
    },
  ]
}
