import { lookup } from 'node:dns/promises'
import ipaddr from 'ipaddr.js'
import { XQueueError } from '../task/errors.ts'

/**
 * Who listens to other machines must know who calls.
 * @throws XQueueError `invalid_config` saying how to mend it
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

/** A name is what it resolves to; what does not resolve cannot be listened on, which is told when it is tried. */
async function isLoopback(host: string): Promise<boolean> {
  const addresses = await lookup(host, { all: true }).catch(() => [])
  return addresses.every(({ address }) => ipaddr.process(address).range() === 'loopback')
}

/** Addresses, which nobody can make point elsewhere, and the names that always mean this machine. */
const LOCAL_NAME = /^(localhost|[\w.-]+\.localhost|\d{1,3}(\.\d{1,3}){3}|\[[\da-f:.]+\])(:\d+)?$/i

/**
 * Whether a Host header names this machine. Where everybody may do everything, nothing else is answered: any site can
 * make a name of its own point to 127.0.0.1, and its pages would then pass for this server's (DNS rebinding).
 */
export function isLocalName(host: string | undefined): boolean {
  return host === undefined || LOCAL_NAME.test(host) // No browser leaves it out.
}
