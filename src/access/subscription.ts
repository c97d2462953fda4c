import { Topics } from '../notify/topics.ts'
import type { Bounds } from '../task/bounds.ts'
import { type Interests, notAccepted, type Principal } from './principal.ts'

/** Loaded by the first token: most servers never see one. */
const jose = () => import('jose')
const TYPE = 'xqueue-subscription'
const ISSUER = 'xqueue'

export interface SubscriptionClaims {
  interests: Interests
  /** The allowed topics, for external brokers that enforce them. */
  topics: readonly string[]
  expiresAt: number
}

/** Creates a token that only allows subscriptions to some tasks or types, for a limited time. */
export async function signSubscription(
  { interests, topics, expiresAt }: SubscriptionClaims,
  by: Principal,
  secret: string,
): Promise<string> {
  const allowed = topics.map((topic) => ({ permission: 'allow', action: 'subscribe', topic: `eq ${topic}` }))
  const claims = {
    ...('taskIds' in interests ? { task_ids: interests.taskIds } : { types: interests.types }),
    topics,
    // The format of EMQX; other topics are denied.
    acl: [...allowed, { permission: 'deny', action: 'all', topic: '#' }],
    key_id: by.keyId,
    made_at: Date.now(),
    // A token never sees more than its key.
    ...(by.bounds ? { bounds: by.bounds } : {}),
    ...(interests.isView ? { view: true } : {}),
  }
  const { SignJWT } = await jose()
  return new SignJWT(claims)
    .setProtectedHeader({ alg: 'HS256', typ: TYPE })
    .setIssuer(ISSUER)
    .setSubject(by.id)
    .setIssuedAt()
    .setExpirationTime(Math.floor(expiresAt / 1_000))
    .sign(bytesOf(secret))
}

/** Whether a JWT claims to be a subscription token. */
export async function isSubscription(token: string): Promise<boolean> {
  const { decodeProtectedHeader } = await jose()
  try {
    return decodeProtectedHeader(token).typ === TYPE
  } catch {
    return false
  }
}

/** @throws XQueueError `unauthorized` */
export async function verifySubscription(token: string, secret: string): Promise<Principal> {
  const checks = { issuer: ISSUER, algorithms: ['HS256'], typ: TYPE, requiredClaims: ['exp', 'sub'] }
  const { jwtVerify } = await jose()
  const { payload } = await jwtVerify(token, bytesOf(secret), checks).catch((error: { code?: string }) => {
    const why = error.code === 'ERR_JWT_EXPIRED' ? 'has expired' : 'was not issued by this queue'
    throw notAccepted(`the subscription token ${why}: get a new one with POST /api/v1/subscriptions`)
  })
  const {
    task_ids: taskIds,
    types,
    key_id: keyId,
    made_at: issuedAt = (payload.iat ?? 0) * 1_000,
    bounds = null,
    view = false,
  } = payload as {
    task_ids?: string[]
    types?: string[]
    key_id: string
    made_at?: number
    bounds?: Bounds
    view?: boolean
  }
  return {
    id: payload.sub!,
    name: `a subscriber of ${payload.sub}`,
    scopes: [],
    rate: null,
    keyId,
    expiresAt: payload.exp! * 1_000,
    issuedAt,
    interests: { ...(taskIds ? { taskIds } : { types: types ?? [] }), isView: view },
    bounds,
  }
}

function bytesOf(secret: string): Uint8Array {
  return new TextEncoder().encode(secret)
}

/** Topics without `+`, so that comparing a filter with them is simple. */
export function topicsOf(interests: Interests, prefix: string): string[] {
  const topics = new Topics(prefix)
  return 'taskIds' in interests
    ? interests.taskIds.flatMap((id) => [topics.task(id), topics.progress(id)])
    : interests.types.map((type) => topics.changesOf(type))
}
