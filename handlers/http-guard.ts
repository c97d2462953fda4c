import { lookup as dnsLookup, type LookupAddress, type LookupOptions } from 'node:dns'
import ipaddr from 'ipaddr.js'
import { DoNotRetry } from '../src/task/retry.ts'

/** All that is given out of IPv6 to the public network (IANA, IPv6 Global Unicast Address Assignments). */
const GLOBAL_UNICAST = ipaddr.IPv6.parseCIDR('2000::/3')

/** Public by its number, but only ever a cloud's own machinery: Azure's WireServer, reached from its machines alone. */
const CLOUD_INTERNAL = ['168.63.129.16']

/** Whether an address may be called: public unicast only, also when it is an IPv4 address inside an IPv6 one. */
export function isPublicAddress(text: string): boolean {
  if (!ipaddr.isValid(text)) return false
  const address = ipaddr.process(text)
  if (address.range() !== 'unicast' || CLOUD_INTERNAL.includes(address.toString())) return false
  if (address.kind() === 'ipv4') return true
  if (!(address as ipaddr.IPv6).match(GLOBAL_UNICAST)) return false
  // Prefixes that carry an IPv4 address and could so name a private one.
  const carriers = ['64:ff9b::/96', '64:ff9b:1::/48', '2002::/16', '2001::/32', '::/96']
  return !carriers.some((range) => (address as ipaddr.IPv6).match(ipaddr.IPv6.parseCIDR(range)))
}

/** @throws DoNotRetry for anything but http(s) to a host that may be called */
export function checkUrl(url: URL, allowPrivate: boolean): void {
  if (url.protocol !== 'http:' && url.protocol !== 'https:') {
    throw new DoNotRetry(`${url.protocol} is not supported: the URL must start with http:// or https://`)
  }
  const host = url.hostname.replace(/^\[|\]$/g, '')
  if (allowPrivate) return
  // These names are loopback by definition (RFC 6761, 6.3), whatever a DNS server says.
  const isLocalhost = /(^|\.)localhost\.?$/i.test(host)
  if (isLocalhost || (ipaddr.isValid(host) && !isPublicAddress(host))) throw refused(host)
}

type Callback = (error: Error | null, address?: string | LookupAddress[], family?: number) => void

/** A DNS look-up that answers only public addresses: what was checked is what is connected to. */
export function publicLookup(hostname: string, options: LookupOptions, callback: Callback): void {
  dnsLookup(hostname, { ...options, all: true }, (error, addresses) => {
    if (error) {
      callback(error)
      return
    }
    const [first] = addresses
    const bad = addresses.find(({ address }) => !isPublicAddress(address))
    if (bad || !first) callback(refused(hostname, bad?.address))
    else if (options.all) callback(null, addresses)
    else callback(null, first.address, first.family)
  })
}

function refused(host: string, address = host): DoNotRetry {
  const what = `${host}${address === host ? '' : ` (${address})`}`
  return new DoNotRetry(`${what} is a private, loopback or reserved address: allow it with http-allow-private`)
}
