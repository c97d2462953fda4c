import { randomFillSync } from 'node:crypto'

/** 104 random bits as decimal digits. Digits alone, so that records of leases stay readable to the version before. */
const SECRET_BYTES = 13
export const SECRET_DIGITS = 32
/** Drawn for many secrets at once: a call for random bytes costs more than it takes to use them. */
const pool = Buffer.alloc(SECRET_BYTES * 256)
let used = pool.length

/**
 * What makes a lease token unguessable: one secret for all leases of one hand-out to one worker. Whatever else a token
 * consists of (task, delivery) is visible to everybody with the scope `read`.
 */
export function leaseSecret(): string {
  if (used === pool.length) {
    randomFillSync(pool)
    used = 0
  }
  const hex = pool.toString('hex', used, used + SECRET_BYTES)
  pool.fill(0, used, used + SECRET_BYTES)
  used += SECRET_BYTES
  return BigInt(`0x${hex}`).toString().padStart(SECRET_DIGITS, '0')
}
