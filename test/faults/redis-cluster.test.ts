import { afterEach, describe, expect, it } from 'vitest'
import { openQueue } from '../../src/queue/open.ts'
import { slotOf } from '../../src/store/redis/client/topology.ts'
import { completeSpec } from '../../src/task/task.ts'
import { type RunningRedis, redisCli, roleOf } from '../fixtures/redis.ts'
import { type RunningCluster, startCluster } from '../fixtures/redis-cluster.ts'
import { expectKept, Load, repeatedly, WAIT_MS } from './load.ts'

let cluster: RunningCluster
let load: Load
afterEach(async () => {
  await load?.stop()
})

const LIMITS = { mail: 5, image: 3, 'search.index': null, invoice: 2, report: 4, push: null }
/** Upper bound for the writes that a master has acknowledged and not yet replicated when it dies. */
const BEHIND_MS = 1_000
const PARTITIONS = 64

const begin = async (replicas: boolean) => {
  cluster = await startCluster({ replicas })
  load = await Load.start(`${cluster.url}?wait_ms=${WAIT_MS}`, { limits: LIMITS, named: {} })
}
const cli = (node: RunningRedis, ...args: string[]) => redisCli(node.port, ...args)
const idOf = (node: RunningRedis) => cli(node, 'CLUSTER', 'MYID')
const isMaster = (node: RunningRedis) => roleOf(node.port) === 'master'
/** Slots of a node with keys of the queue. */
const slotsOf = (node: RunningRedis) =>
  Array.from({ length: PARTITIONS }, (_, partition) => slotOf(String(partition))).filter(
    (slot) => cli(node, 'CLUSTER', 'COUNTKEYSINSLOT', String(slot)) !== '0',
  )

/** Moves a slot as redis-cli --cluster reshard does, and observes it while only some keys have moved. */
async function move(slot: number, from: RunningRedis, to: RunningRedis, halfway: () => Promise<void>): Promise<void> {
  const setSlot = (on: RunningRedis, ...how: string[]) => cli(on, 'CLUSTER', 'SETSLOT', String(slot), ...how)
  setSlot(to, 'IMPORTING', idOf(from))
  setSlot(from, 'MIGRATING', idOf(to))
  for (let batch = 0; ; batch++) {
    // Few at first, so that some keys stay; then many, because each call starts a process.
    const max = batch === 0 ? '20' : '500'
    const keys = cli(from, 'CLUSTER', 'GETKEYSINSLOT', String(slot), max).split('\n').filter(Boolean)
    if (keys.length === 0) break
    cli(from, 'MIGRATE', '127.0.0.1', String(to.port), '', '0', '5000', 'KEYS', ...keys)
    if (batch === 0) await halfway()
  }
  for (const node of [to, from, ...cluster.nodes]) if (isMaster(node)) setSlot(node, 'NODE', idOf(to))
}

describe('a Redis Cluster changes under load', () => {
  it('moves slots to another node: only tasks of the moving slot wait', async () => {
    await begin(false)
    await load.progress()
    let faults = 0
    await repeatedly(async () => {
      const byKeys = [...cluster.nodes].sort((a, b) => slotsOf(b).length - slotsOf(a).length)
      const [from, to] = [byKeys[0]!, byKeys[1]!]
      for (const slot of slotsOf(from)) {
        const failures = () => load.count(({ what }) => what === 'refused' || what === 'unsure')
        const before = failures()
        const halfway = () => load.until(() => failures() > before, 'somebody comes to the slot that moves')
        await move(slot, from, to, faults === 0 ? halfway : async () => undefined)
        faults += 1
      }
      await load.progress()
    })
    expectKept('slots moved', await load.finish(), faults)
  })

  it('continues with the replica of a killed master, which returns as a replica', async () => {
    await begin(true)
    const mayLose: { from: number; to: number }[] = []
    const faults = await repeatedly(async () => {
      await load.progress()
      const masters = cluster.nodes.filter(isMaster)
      const victim = masters.sort((a, b) => slotsOf(b).length - slotsOf(a).length)[0]!
      const others = cluster.nodes.filter((node) => node !== victim)
      const before = others.filter(isMaster).length
      const at = Date.now()
      await victim.kill()
      mayLose.push({ from: at - BEHIND_MS, to: Date.now() })
      await load.until(() => others.filter(isMaster).length > before, 'the replica is promoted')
      await victim.start()
      await load.progress()
      await load.until(() => roleOf(victim.port) === 'slave', 'it is a replica')
      await load.until(() => cli(victim, 'INFO').includes('master_link_status:up'), 'it is back')
    })
    const history = await load.finish()
    expect(new Set(history.lines.flatMap((line) => (line.what === 'refused' ? [line.code] : []))).size).toBeLessThan(2)
    expectKept('master killed', { ...history, mayLose }, faults)
  })
})

describe('a node of a Redis Cluster is down', () => {
  it('does not delay the tasks of the other nodes', async () => {
    cluster = await startCluster({ flags: ['--cluster-require-full-coverage', 'no'] })
    const queue = await openQueue(`${cluster.url}?wait_ms=${WAIT_MS}`)
    const types = Object.keys(LIMITS)
    for (const type of types) await queue.configureType(type, { declared: true })
    const submitted = await queue.submit(types.map((type) => completeSpec({ type })))
    const worker = { id: 'w', host: 'h', pid: 1, types, concurrency: 10, startedAt: 0 }
    const victim = [...cluster.nodes].sort((a, b) => slotsOf(a).length - slotsOf(b).length).at(-1)!
    await victim.kill()
    const { leases } = await queue.turn({ worker, want: 10, waitMs: 100 })
    expect(leases.length).toBeGreaterThan(0)
    expect(leases.length).toBeLessThan(submitted.length)
    await queue.close()
  })
})
