import { describe, expect, it } from 'vitest'
import { parseKafkaUrl } from '../../src/store/kafka/client/kafka-url.ts'
import { Topics } from '../../src/store/kafka/client/topics.ts'

const STATE = 'state=redis://u:p@r1/2?prefix=a&wait_ms=100'

describe('a Kafka URL', () => {
  it('has the brokers, and then the URL of the state', () => {
    const place = parseKafkaUrl(
      `kafka://b1,b2:9093,[::1]:9094/?prefix=shop&partitions=12&retention=2h&events=off&${STATE}`,
    )
    expect(place).toMatchObject({
      brokers: ['b1:9092', 'b2:9093', '::1:9094'],
      state: 'redis://u:p@r1/2?prefix=a&wait_ms=100',
      prefix: 'shop',
      partitions: 12,
      replication: null,
      retentionMs: 7_200_000,
      events: false,
    })
    expect(parseKafkaUrl('kafka://b?state=redis%3A%2F%2Fh%3Fprefix%3Da').state).toBe('redis://h?prefix=a')
  })

  it('may have a login and TLS', () => {
    expect(parseKafkaUrl(`kafka://ann:p%40ss@b?tls=on&sasl=scram-sha-512&${STATE}`)).toMatchObject({
      tls: {},
      sasl: { mechanism: 'SCRAM-SHA-512', username: 'ann', password: 'p@ss' },
    })
    expect(parseKafkaUrl(`kafka://ann:secret@b?${STATE}`).sasl?.mechanism).toBe('PLAIN')
  })

  it.each([
    ['kafka://b', /state= is missing/],
    [`kafka://b?color=red&${STATE}`, /unknown parameter color/],
    [`kafka://b?partitions=0&${STATE}`, /partitions must be a whole number from 1 to 1000/],
    [`kafka://b?prefix=a_b&${STATE}`, /only letters, digits and -;/],
    [`kafka://b:99999?${STATE}`, /a broker must have the form host:port/],
    [`kafka://b?sasl=plain&${STATE}`, /sasl requires user:password@/],
    [`kafka://ann:x@b?sasl=kerberos&${STATE}`, /sasl must be plain, scram-sha-256 or scram-sha-512;/],
    [`kafka://b?ca=/nowhere.pem&${STATE}`, /ca is not a readable file/],
    [`kafka://b?retention=soon&${STATE}`, /retention: "soon" is not a duration/],
  ])('is refused with a remedy: %s', (url, why) => {
    expect(() => parseKafkaUrl(url)).toThrow(why)
    expect(() => parseKafkaUrl(url)).toThrow(/write kafka:\/\//)
  })
})

describe('the topic of a lane', () => {
  const topics = new Topics(parseKafkaUrl(`kafka://b?${STATE}`))

  it('is a valid name in Kafka, and differs for two types', () => {
    const types = ['a.b', 'a_b', 'a-b', 'a:b', 'a', 'a.b.0', ':'.repeat(100), `${':'.repeat(99)}_`]
    const names = types.map((type) => topics.lane(type, 0))
    for (const name of names) expect(name).toMatch(/^xq\.lane\.[A-Za-z0-9.-]{1,230}\.0$/)
    expect(new Set(names.map((name) => name.replaceAll('.', '_'))).size).toBe(types.length)
  })
})
