import type { FastifyReply, FastifyRequest } from 'fastify'

/** A part of the header `Prefer` (RFC 7240). Of several preferences with one name, the first counts. */
const RETURN = /(?:^|[,;])\s*return\s*=\s*"?(minimal|representation)"?\s*(?:[,;]|$)/i

/** Whether the caller prefers this form of answer; if so, the answer says that it has it. */
export function prefers(request: FastifyRequest, reply: FastifyReply, form: 'minimal' | 'representation'): boolean {
  const { prefer } = request.headers
  if (prefer === undefined) return false
  if (RETURN.exec(String(prefer))?.[1]?.toLowerCase() !== form) return false
  reply.header('Preference-Applied', `return=${form}`)
  return true
}
