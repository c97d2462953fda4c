import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type RunningRedis, redisCli, startRedis } from '../fixtures/redis.ts'
import { startProxy, type TcpProxy } from '../fixtures/tcp-proxy.ts'
import type { Line } from './history.ts'
import { expectKept, Load, repeatedly, WAIT_MS } from './load.ts'

let redis: RunningRedis
let proxy: TcpProxy
let load: Load
beforeEach(async () => {
  redis = await startRedis()
  proxy = await startProxy(redis.port)
})
afterEach(async () => {
  redis.signal('SIGCONT')
  await load?.stop()
})

const begin = async (port = redis.port) => {
  load = await Load.start(`redis://127.0.0.1:${port}?wait_ms=${WAIT_MS}`)
}
const refused = () => load.lines().filter((line): line is Extract<Line, { what: 'refused' }> => line.what === 'refused')
const untilRefused = (more = 1) => {
  const before = refused().length
  return load.until(() => refused().length >= before + more, 'a submission is refused')
}
/** Far above the bound, for a machine with other things to do; what hangs, hangs for good. */
const BOUND_MS = 10 * WAIT_MS

/** Submissions during the outage were refused in time, with the code that HTTP answers as 503. */
function expectRefusedInTime(): void {
  expect(new Set(refused().map(({ code }) => code))).toEqual(new Set(['engine_unavailable']))
  expect(Math.max(...refused().map(({ afterMs }) => afterMs))).toBeLessThan(BOUND_MS)
}

describe('Redis stops responding under load', () => {
  it('waits during a pause shorter than the bound, and refuses nothing', async () => {
    await begin()
    const faults = await repeatedly(async () => {
      await load.progress()
      redisCli(redis.port, 'CLIENT', 'PAUSE', String(WAIT_MS / 3), 'ALL')
      await load.progress()
    })
    const history = await load.finish()
    expect(refused()).toEqual([])
    expectKept('CLIENT PAUSE', history, faults)
  })

  it('refuses submissions after the bound while the process of Redis is stopped, and continues after it', async () => {
    await begin()
    const faults = await repeatedly(async () => {
      await load.progress()
      redis.signal('SIGSTOP')
      await untilRefused(2)
      redis.signal('SIGCONT')
      await load.progress()
    })
    const history = await load.finish()
    expectRefusedInTime()
    expectKept('SIGSTOP', history, faults)
  })
})

describe('the network fails under load', () => {
  it('continues by itself after a short interruption', async () => {
    await begin(proxy.port)
    const faults = await repeatedly(async () => {
      await load.progress()
      proxy.cut()
      proxy.repair()
      await load.progress()
    })
    expectKept('short cut', await load.finish(redis.url), faults)
  })

  it('refuses submissions after the bound while it is down, and continues after it', async () => {
    await begin(proxy.port)
    const faults = await repeatedly(async () => {
      await load.progress()
      proxy.cut()
      await untilRefused(2)
      proxy.repair()
      await load.progress()
    })
    const history = await load.finish(redis.url)
    expectRefusedInTime()
    expectKept('cut', history, faults)
  })

  it('detects dead connections that the network keeps open', async () => {
    await begin(proxy.port)
    const faults = await repeatedly(async () => {
      await load.progress()
      proxy.swallow()
      await untilRefused(2)
      proxy.repair()
      await load.progress()
    })
    const history = await load.finish(redis.url)
    expectRefusedInTime()
    expectKept('half-open', history, faults)
  })

  it('works over a slow network with a small bandwidth', async () => {
    await begin(proxy.port)
    await load.progress()
    proxy.delay(50)
    proxy.throttle(500_000)
    await load.progress()
    proxy.repair()
    const history = await load.finish(redis.url)
    expect(refused()).toEqual([])
    expectKept('slow', history, 1)
  })
})
