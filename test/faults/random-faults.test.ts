import { setTimeout as lasting } from 'node:timers/promises'
import { afterEach, describe, it } from 'vitest'
import { type RunningRedis, redisCli, startRedis } from '../fixtures/redis.ts'
import { startProxy, type TcpProxy } from '../fixtures/tcp-proxy.ts'
import { SeededRandom } from '../simulation/random.ts'
import { expectKept, LEASE_MS, Load, type Member, repeatedly, WAIT_MS } from './load.ts'

/** TEST_SEED=N draws the same faults in the same order again. */
const seed = Number(process.env.TEST_SEED ?? Math.floor(Math.random() * 2 ** 31))
const ROUNDS = 4

let redis: RunningRedis
let proxy: TcpProxy
let load: Load
afterEach(async () => {
  redis.signal('SIGCONT')
  await load?.stop()
})

describe('random faults under load, some at the same time', () => {
  it('loses nothing and finishes nothing twice, in any order of faults', async () => {
    redis = await startRedis('--appendonly', 'yes', '--appendfsync', 'always')
    proxy = await startProxy(redis.port)
    load = await Load.start(`redis://127.0.0.1:${proxy.port}?wait_ms=${WAIT_MS}`)
    const random = new SeededRandom(seed)
    const one = (role: Member['role']) =>
      random.one(load.members.filter((member) => member.role === role && isAlive(member)))
    /** Up to twice as long as a lease lives, or a call waits. */
    const ms = () => random.between(20, 2 * LEASE_MS)
    const replaced = async (role: Member['role']) => {
      await load.kill(one(role))
      // A process does not start where it reaches nothing.
      proxy.repair()
      await load.add(role)
    }
    const halted = async (signal: (name: NodeJS.Signals) => unknown) => {
      signal('SIGSTOP')
      await lasting(ms())
      signal('SIGCONT')
    }
    const faults: Record<string, () => Promise<unknown>> = {
      'a worker is killed': () => replaced('work'),
      'a submitter is killed': () => replaced('submit'),
      'a worker stands still': () => {
        const { child } = one('work')
        return halted((name) => child.kill(name))
      },
      'Redis stands still': () => halted(redis.signal),
      'Redis is killed and starts again': () => redis.kill().then(() => redis.start()),
      'Redis forgets its functions': async () => redisCli(redis.port, 'FUNCTION', 'FLUSH', 'SYNC'),
      'connections are cut': async () => proxy.cut(),
      'connections are silent': async () => proxy.swallow(),
      'the network is slow': async () => proxy.delay(random.between(1, 100)),
      'the network is narrow': async () => proxy.throttle(random.between(50_000, 500_000)),
    }
    console.info(`faults of TEST_SEED=${seed}`)
    let drawn = 0
    const rounds = async () => {
      for (let round = 0; round < ROUNDS; round++) {
        await load.progress(30)
        for (let more = random.between(1, 3); more > 0; more--, drawn++) {
          const name = random.one(Object.keys(faults))
          console.info(`  ${name}`)
          await faults[name]!()
          await lasting(ms() / 4)
        }
        proxy.repair()
      }
    }
    await repeatedly(rounds)
    await load.progress()
    expectKept('drawn', await load.finish(redis.url), drawn)
  }, 240_000)
})

function isAlive({ child }: Member): boolean {
  return child.exitCode === null && child.signalCode === null
}
