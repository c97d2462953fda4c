import { lookup } from 'node:dns/promises'
import ipaddr from 'ipaddr.js'
import { XQueueError } from '../task/errors.ts'

/**
 * A server that other machines can reach needs access control.
 * @throws XQueueError `invalid_config`
 */
export async function refuseExposure(host: string, isGuarded: boolean, insecure: boolean): Promise<void> {
  if (isGuarded || insecure || (await isLoopback(host))) return
  throw new XQueueError(
    'invalid_config',
    `--host ${host} is reachable from other machines, but access control is off: create a key with ` +
      '`xqueue keys create admin --scopes admin` and start with --auth keys, listen on 127.0.0.1, or, to give ' +
      'every client full access, start with --insecure',
  )
}

/** Resolves a name. If that fails, listening fails later with a clear error. */
async function isLoopback(host: string): Promise<boolean> {
  const addresses = await lookup(host, { all: true }).catch(() => [])
  return addresses.every(({ address }) => ipaddr.process(address).range() === 'loopback')
}

/** IP addresses, and the names that always resolve to this machine. */
const LOCAL_NAME = /^(localhost|[\w.-]+\.localhost|\d{1,3}(\.\d{1,3}){3}|\[[\da-f:.]+\])(:\d+)?$/i

/**
 * Whether a Host header names this machine. Without access control, only such requests are answered: any site can make
 * its own name resolve to 127.0.0.1, and its pages would then count as this server's (DNS rebinding).
 */
export function isLocalName(host: string | undefined): boolean {
  return host === undefined || LOCAL_NAME.test(host) // All browsers send it.
}
