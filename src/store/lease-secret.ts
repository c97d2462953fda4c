import { randomFillSync } from 'node:crypto'

/** 104 random bits as decimal digits. Only digits, so that the previous version can read records of leases. */
const SECRET_BYTES = 13
export const SECRET_DIGITS = 32
/** Filled for many secrets at once: a call for random bytes costs more than their use. */
const pool = Buffer.alloc(SECRET_BYTES * 256)
let used = pool.length

/**
 * Makes a lease token unguessable: one secret for all leases of one delivery to one worker. The other parts of a token
 * (task, delivery) are visible to every client with the scope `read`.
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
