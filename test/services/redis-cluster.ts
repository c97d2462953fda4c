import { execFileSync } from 'node:child_process'
import { type RunningRedis, redisCli, startRedis } from './redis.ts'

export interface RunningCluster {
  url: string
  /** In the order they were made: the masters first, then a replica for each of them. */
  nodes: RunningRedis[]
  /** Resolves when every node says that the cluster serves. */
  serves(): Promise<void>
  stop(): Promise<void>
}

const MASTERS = 3
/** A node that is silent for so long is failed over. */
const NODE_TIMEOUT_MS = 1_500

/** A Redis Cluster on the loopback address: three masters, and with `replicas` one for each. */
export async function startCluster({ replicas = false, flags = [] as string[] } = {}): Promise<RunningCluster> {
  const own = ['--cluster-enabled', 'yes', '--cluster-node-timeout', String(NODE_TIMEOUT_MS)]
  const starts = Array.from({ length: replicas ? 2 * MASTERS : MASTERS }, () =>
    startRedis(...own, '--repl-diskless-sync-delay', '0', '--cluster-replica-validity-factor', '0', ...flags),
  )
  const started = await Promise.allSettled(starts)
  const nodes = started.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []))
  const stop = async () => {
    await Promise.all(nodes.map((node) => node.stop()))
  }
  const serves = () =>
    until(() => nodes.every(({ port }) => redisCli(port, 'CLUSTER', 'INFO').startsWith('cluster_state:ok')))
  try {
    if (nodes.length < starts.length) throw started.find((result) => result.status === 'rejected')!.reason
    const addresses = nodes.map(({ port }) => `127.0.0.1:${port}`)
    const create = ['--cluster', 'create', ...addresses, '--cluster-replicas', replicas ? '1' : '0', '--cluster-yes']
    execFileSync('redis-cli', create, { stdio: 'ignore' })
    await serves()
    if (replicas) await until(() => nodes.every(({ port }) => hasItsPeer(redisCli(port, 'INFO', 'replication'))))
  } catch (error) {
    await stop()
    throw error
  }
  return { url: `redis+cluster://${nodes.map(({ port }) => `127.0.0.1:${port}`).join(',')}`, nodes, serves, stop }
}

/** A master with its replica, or a replica that has what its master has. */
function hasItsPeer(info: string): boolean {
  return info.includes('state=online') || info.includes('master_link_status:up')
}

async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await new Promise((resolve) => setTimeout(resolve, 50))
}
