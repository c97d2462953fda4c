import type { FastifyRequest } from 'fastify'
import type { Holder, LimitChange, LimitHolder, LimitInfo, Queue, TypeInfo } from '../queue/queue.ts'
import { invalidField, XQueueError } from '../task/errors.ts'
import { isoTime } from '../task/task-json.ts'
import { nameOfGroupLimit } from '../task/uses.ts'
import type { ServerContext } from './route.ts'
import { holderJson, rateJson } from './type-json.ts'
import { changeType, oneType } from './types.ts'

/** Maximum number of waiting tasks that a limit names. */
const WAITERS_MAX = 100

export interface LimitJson {
  name: string
  max: number | null
  rate: ReturnType<typeof rateJson>
  paused: boolean
  held_until: string | null
  in_use: number | null
  waiting: number | null
}

/** A limit under its name: of a type, of the groups of a type, of one group, or a named one. */
export interface Target {
  show(): Promise<LimitJson & { holders: object[]; waiters: string[] }>
  /** @throws XQueueError `not_found`, `invalid_request` */
  change(change: LimitChange): Promise<LimitJson>
  remove(): Promise<LimitJson>
}

/** `type:<type>`, `group:<type>/*` for each group of a type, or `group:<type>/<group>` for one of them. */
const OF_TYPE = /^(?:type:(?<type>[^/]+)|group:(?<of>[^/]+)\/(?<group>.+))$/s
/** In place of the name of a group: each group of the type. */
const EACH = '*'

export function targetOf(context: ServerContext, request: FastifyRequest): Target {
  const { name } = request.params as { name: string }
  const { type, of, group } = OF_TYPE.exec(name)?.groups ?? {}
  if (type !== undefined) return ofType(context, request, type)
  if (of !== undefined) return group === EACH ? ofGroups(context, request, of) : ofGroup(context, request, of, group!)
  return named(context, request, name)
}

/** All limits that are set, and the types that are paused or held. */
export async function allLimits(queue: Queue): Promise<LimitJson[]> {
  const ofTypes = (await queue.types()).flatMap((info) => [
    ...(isSet(info) ? [typeLimit(info)] : []),
    ...(info.groupConcurrency === null ? [] : [groupLimit(info, EACH, info.groupConcurrency, null)]),
  ])
  return [...ofTypes, ...(await queue.limits()).map(limitJson)]
}

/** The settings of all of them, as the events of changes tell them. */
export async function limitStates(queue: Queue) {
  return (await allLimits(queue)).map(({ in_use: _, waiting: __, ...settings }) => settings)
}

function ofType(context: ServerContext, request: FastifyRequest, type: string): Target {
  const { queue } = context
  const set = async ({ max, ...change }: LimitChange) => {
    await oneType(queue, type)
    const limit = max === undefined ? {} : { maxConcurrency: max }
    return typeLimit(await changeType(context, request, type, { ...limit, ...withoutHandler(change) }))
  }
  return {
    show: async () => {
      const info = await oneType(queue, type)
      const { tasks } = await queue.list({ status: 'pending', type, limit: WAITERS_MAX, bare: true })
      return { ...typeLimit(info), holders: info.holders.map(holderJson), waiters: tasks.map(({ id }) => id) }
    },
    change: set,
    remove: () => set({ max: null, rate: null }),
  }
}

function ofGroups(context: ServerContext, request: FastifyRequest, type: string): Target {
  const { queue } = context
  const set = async (max: number | null) => {
    await oneType(queue, type)
    return groupLimit(await changeType(context, request, type, { groupConcurrency: max }), EACH, max, null)
  }
  return {
    show: async () => {
      const info = await oneType(queue, type)
      const limit = groupLimit(info, EACH, info.groupConcurrency, null)
      return { ...limit, holders: info.holders.map(holderJson), waiters: [] }
    },
    change: (change) => set(maxAlone(change)),
    remove: () => set(null),
  }
}

function ofGroup(context: ServerContext, request: FastifyRequest, type: string, group: string): Target {
  const { queue } = context
  const name = nameOfGroupLimit(type, group)
  const read = async () => {
    const info = await oneType(queue, type)
    const [own] = await queue.limits({ names: [name] })
    const holders = info.holders.filter((holder) => holder.group === group)
    return { holders, limit: groupLimit(info, group, own ? own.max : info.groupConcurrency, holders) }
  }
  const set = async (change: LimitChange) => {
    const before = (await read()).limit
    await queue.configureLimit(name, change).catch((error: unknown) => {
      if (!(change.remove && error instanceof XQueueError && error.code === 'unknown_limit')) throw error
    })
    const after = (await read()).limit
    request.audited = { from: { max: before.max }, to: { max: after.max } }
    return after
  }
  return {
    show: async () => {
      const { limit, holders } = await read()
      const { tasks } = await queue.list({ status: 'pending', type, group, limit: WAITERS_MAX, bare: true })
      return { ...limit, holders: holders.map(holderJson), waiters: tasks.map(({ id }) => id) }
    },
    change: (change) => set({ max: maxAlone(change) }),
    remove: () => set({ remove: true }),
  }
}

function named(context: ServerContext, request: FastifyRequest, name: string): Target {
  const { queue } = context
  const read = async () => {
    const [info] = await queue.limits({ names: [name], holders: true })
    return info
  }
  const set = async (change: LimitChange) => {
    const before = await read()
    await queue.configureLimit(name, change).catch((error: unknown) => {
      throw error instanceof XQueueError && error.code === 'unknown_limit' ? notFound(name) : error
    })
    const after = await read()
    request.audited = { from: before && toldOf(before), to: after && toldOf(after) }
    return limitJson(after ?? { ...before!, max: null, rate: null })
  }
  return {
    show: async () => {
      const info = await read()
      if (!info) throw notFound(name)
      return { ...limitJson(info), holders: info.holders.map(limitHolderJson), waiters: [...info.waiters] }
    },
    change: set,
    remove: () => set({ remove: true }),
  }
}

/** @throws XQueueError `invalid_request` for anything but `max` */
function maxAlone({ max, rate, paused, holdMs }: LimitChange): number | null {
  if (rate !== undefined) throw invalidField('rate', 'is not possible for groups: set it for `type:TYPE`')
  if (paused !== undefined || holdMs !== undefined) {
    throw invalidField('name', 'names a group: only types and named limits can be paused or held')
  }
  return max!
}

function withoutHandler({ handler: _, remove: __, ...change }: LimitChange) {
  return change
}

function notFound(name: string): XQueueError {
  const remedy = 'set max or rate with PUT, or use `type:TYPE`, `group:TYPE/*` or `group:TYPE/GROUP`'
  return new XQueueError('not_found', `there is no limit ${JSON.stringify(name)}: ${remedy}`)
}

function isSet({ maxConcurrency, rate, paused, heldUntil }: TypeInfo): boolean {
  return maxConcurrency !== null || rate !== null || paused || heldUntil !== null
}

function typeLimit({ type, maxConcurrency, rate, paused, heldUntil, processing, pending }: TypeInfo): LimitJson {
  return {
    name: `type:${type}`,
    max: maxConcurrency,
    rate: rateJson(rate),
    paused,
    held_until: isoTime(heldUntil),
    in_use: processing,
    waiting: pending,
  }
}

function groupLimit({ type }: TypeInfo, group: string, max: number | null, holders: readonly Holder[] | null) {
  const name = nameOfGroupLimit(type, group)
  const none = { rate: null, paused: false, held_until: null, waiting: null }
  return { name, max, ...none, in_use: holders === null ? null : holders.length } satisfies LimitJson
}

export function limitJson({ name, max, rate, paused, heldUntil, inUse, waiting }: LimitInfo): LimitJson {
  return { name, max, rate: rateJson(rate), paused, held_until: isoTime(heldUntil), in_use: inUse, waiting }
}

function limitHolderJson(holder: LimitHolder) {
  return { ...holderJson(holder), type: holder.type, units: holder.units }
}

/** The values of the audit log. */
function toldOf(info: LimitInfo) {
  const { max, rate, paused, held_until } = limitJson(info)
  return { max, rate, paused, held_until }
}
