import { BlockList, isIPv4 } from 'node:net'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { checkUrl, isPublicAddress, publicLookup } from '../../handlers/http-guard.ts'
import { DoNotRetry } from '../../src/task/retry.ts'
import { effectOf } from './run-handler.ts'

beforeEach(() => {
  for (const name of ['SMTP_URL', 'OUTBOX', 'HTTP_ALLOW_PRIVATE', 'HTTP_SECRET', 'HTTP_SECRETS']) {
    vi.stubEnv(`XQUEUE_${name}`, undefined)
  }
})
afterEach(() => vi.unstubAllEnvs())

describe('the guard of the http handler', () => {
  const REFUSED_V4 = [
    ...['0.0.0.0/8', '10.0.0.0/8', '100.64.0.0/10', '127.0.0.0/8', '169.254.0.0/16', '172.16.0.0/12', '192.0.0.0/24'],
    ...['192.0.2.0/24', '192.31.196.0/24', '192.52.193.0/24', '192.88.99.0/24', '192.168.0.0/16', '192.175.48.0/24'],
    ...['198.18.0.0/15', '198.51.100.0/24', '203.0.113.0/24', '224.0.0.0/4', '240.0.0.0/4', '255.255.255.255/32'],
  ]
  /** Everything outside 2000::/3, and the reserved ranges inside it. */
  const REFUSED_V6 = [
    ...['::/128', '::1/128', '::/3', '100::/64', '200::/7', '4000::/2', '8000::/1', 'fc00::/7', 'fe80::/10'],
    ...[
      'fec0::/10',
      'ff00::/8',
      '2001:2::/48',
      '2001:10::/28',
      '2001:20::/28',
      '2001:db8::/32',
      '3fff::/20',
      '5f00::/16',
    ],
  ]
  /** How an IPv6 address can carry an IPv4 one: the two halves of the latter stand for V4. */
  const CARRIERS = {
    'IPv4-mapped': '::ffff:V4',
    'IPv4-compatible': '::V4',
    'IPv4-translated': '::ffff:0:V4',
    '6to4': '2002:V4::1',
    NAT64: '64:ff9b::V4',
    'local NAT64': '64:ff9b:1::V4',
    Teredo: '2001:0:V4::1',
  }

  /** Any address of a range such as 10.0.0.0/8 or fe80::/10. */
  function within(range: string): fc.Arbitrary<string> {
    const [start = '', bits] = range.split('/')
    const v4 = isIPv4(start)
    const groups = v4 ? start.split('.') : start.slice(0, start.indexOf('::')).split(':')
    const [length, groupBits, base] = v4 ? [4, 8, 10] : [8, 16, 16]
    const free = (index: number) => {
      const fixed = Math.min(Math.max(Number(bits) - index * groupBits, 0), groupBits)
      const min = Number.parseInt(groups[index] || '0', base)
      return fc.integer({ min, max: min + 2 ** (groupBits - fixed) - 1 }).map((group) => group.toString(base))
    }
    return fc.tuple(...Array.from({ length }, (_, index) => free(index))).map((all) => all.join(v4 ? '.' : ':'))
  }

  const hex = (v4: string) => {
    const [a = 0, b = 0, c = 0, d = 0] = v4.split('.').map(Number)
    return `${(a * 256 + b).toString(16)}:${(c * 256 + d).toString(16)}`
  }

  it.each(REFUSED_V4)('refuses every address of %s', (range) => {
    fc.assert(fc.property(within(range), (address) => !isPublicAddress(address)))
  })

  it.each(REFUSED_V6)('refuses every address of %s', (range) => {
    fc.assert(fc.property(within(range), (address) => !isPublicAddress(address)))
  })

  it.each(Object.entries(CARRIERS))('refuses every private IPv4 address written as %s', (_, pattern) => {
    const privateAddress = fc.oneof(...REFUSED_V4.map(within))
    fc.assert(fc.property(privateAddress, (address) => !isPublicAddress(pattern.replace('V4', hex(address)))))
  })

  it('refuses a private IPv4 address in the obfuscated form of Teredo', () => {
    const inverted = (v4: string) =>
      hex(
        v4
          .split('.')
          .map((byte) => 255 - Number(byte))
          .join('.'),
      )
    const privateAddress = fc.oneof(...REFUSED_V4.map(within))
    fc.assert(fc.property(privateAddress, (v4) => !isPublicAddress(`2001:0:4136:e378:8000:63bf:${inverted(v4)}`)))
  })

  it('accepts every other IPv4 address', () => {
    const refused = new BlockList()
    for (const range of REFUSED_V4) {
      const [start = '', bits] = range.split('/')
      refused.addSubnet(start, Number(bits))
    }
    fc.assert(
      fc.property(within('0.0.0.0/0'), (address) => isPublicAddress(address) !== refused.check(address)),
      { numRuns: 2_000 },
    )
  })

  it.each([
    '1.1.1.1',
    '8.8.8.8',
    '93.184.216.34',
    '172.32.0.1',
    '100.128.0.1',
    '223.255.255.255',
    '2606:4700:4700::1111',
    '2a00:1450:4001:829::200e',
    '2001:4860:4860::8888',
    '::ffff:8.8.8.8',
  ])('accepts the public address %s', (address) => {
    expect(isPublicAddress(address)).toBe(true)
  })

  it('refuses everything that is not an address', () => {
    expect(['', 'localhost', '8.8.8.8.8', '8.8.8.8/8', '::g', '[2606:4700:4700::1111]'].some(isPublicAddress)).toBe(
      false,
    )
    fc.assert(
      fc.property(
        fc.string().filter((text) => !/[\d:]/.test(text)),
        (text) => !isPublicAddress(text),
      ),
    )
  })

  it.each([
    'http://127.0.0.1',
    'http://127.0.0.1.',
    'http://2130706433',
    'http://0x7f000001',
    'http://017700000001',
    'http://0x7f.1',
    'http://0177.0.0.1',
    'http://127.1',
    'http://0',
    'http://%31%32%37.0.0.1',
    'http://１２７.０.０.１',
    'http://127。0。0。1',
    'http://public.example@127.0.0.1',
    'http://169.254.169.254/latest/meta-data',
    'http://168.63.129.16/machine?comp=goalstate',
    'http://[::ffff:168.63.129.16]',
    'http://[::1]',
    'http://[::]',
    'http://[0:0:0:0:0:0:0:1]',
    'http://[::ffff:127.0.0.1]',
    'http://[::ffff:7f00:1]',
    'http://[::127.0.0.1]',
    'http://[64:ff9b::10.0.0.1]',
    'http://[2002:7f00:1::]',
    'https://[fe80::1]',
    'https://[fd00::1]:8443',
  ])('refuses the URL %s', (url) => {
    expect(() => checkUrl(new URL(url), false)).toThrow(DoNotRetry)
    expect(() => checkUrl(new URL(url), false)).toThrow('http-allow-private')
    expect(() => checkUrl(new URL(url), true)).not.toThrow()
  })

  it.each([
    'ftp://example.com',
    'file:///etc/passwd',
    'data:,x',
    'ws://example.com',
    'javascript:1',
    'blob:http://example.com/1',
  ])('refuses the protocol of %s, also when private addresses are allowed', (url) => {
    expect(() => checkUrl(new URL(url), true)).toThrow(DoNotRetry)
    expect(() => checkUrl(new URL(url), false)).toThrow('must start with http:// or https://')
  })

  it.each(['http://example.com', 'https://8.8.8.8:444/x', 'HTTPS://[2606:4700:4700::1111]'])(
    'accepts the URL %s',
    (url) => {
      expect(() => checkUrl(new URL(url), false)).not.toThrow()
    },
  )

  const lookup = (name: string, all: boolean) =>
    new Promise((resolve, reject) => {
      publicLookup(name, { all }, (error, ...found) => (error ? reject(error) : resolve(found)))
    })

  it.each([true, false])('refuses a name that resolves to a private address (all: %s)', async (all) => {
    await expect(lookup('localhost', all)).rejects.toThrow(/^localhost \((127\.|::1).* allow it with/)
    expect(await effectOf(lookup('localhost', all))).toBe('fails for good')
  })

  it('answers a lookup in the requested form', async () => {
    expect(await lookup('8.8.8.8', false)).toEqual(['8.8.8.8', 4])
    expect(await lookup('8.8.8.8', true)).toEqual([[{ address: '8.8.8.8', family: 4 }]])
  })

  it('refuses a name without an address', async () => {
    expect(await effectOf(lookup('', true))).toBe('fails for good')
  })
})
