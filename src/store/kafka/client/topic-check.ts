import { ConfigResourceTypes } from '@platformatic/kafka'
import type { Log } from './log.ts'
import type { TopicPlan, Topics } from './topics.ts'

/** Settings that must be unchanged, or tasks are lost; the operator of the brokers may change the others. */
const FIXED = ['cleanup.policy', 'retention.ms', 'retention.bytes'] as const

/** The faults of the existing topics, each with its remedy; empty if there are none. */
export async function faultsOfTopics(log: Log, topics: Topics): Promise<string[]> {
  const names = await log.topics((topic) => topics.isOwn(topic))
  const { topics: known } = await log.metadata(names)
  const plans = new Map(topics.plans().map((plan) => [plan.name, plan]))
  const missing = [...plans.keys()].filter((name) => !known.has(name))
  const faults = missing.map((name) => `${name} is missing: start XQueue, or create it as in docs/kafka.md`)
  const settings = await settingsOf(log, names)
  for (const name of names) {
    const plan = plans.get(name) ?? (topics.holdsTasks(name) ? topics.lanePlan(name) : null)
    const there = settings.get(name)
    if (plan && there) faults.push(...settingFaults(plan, there))
    const replicas = known.get(name)!.partitions[0]!.replicas.length
    const minimum = Number(there?.get('min.insync.replicas') ?? 1)
    if (minimum > replicas) {
      faults.push(`${name} requires ${minimum} replicas in sync and has ${replicas}: lower its min.insync.replicas`)
    }
    const wanted = log.url.replication ?? 1
    if (replicas < wanted) {
      const how = 'move it with kafka-reassign-partitions.sh, or lower replication= in the URL'
      faults.push(`${name} has ${replicas} copies and should have ${wanted}: ${how}`)
    }
  }
  return faults
}

async function settingsOf(log: Log, names: readonly string[]): Promise<Map<string, Map<string, string | null>>> {
  if (names.length === 0) return new Map()
  const asked = names.map((resourceName) => ({
    resourceType: ConfigResourceTypes.TOPIC,
    resourceName,
    configurationKeys: [...FIXED, 'min.insync.replicas'],
  }))
  const described = await log.admin.describeConfigs({ resources: asked })
  return new Map(
    described.map(({ resourceName, configs }) => [
      resourceName,
      new Map(configs.map(({ name, value }) => [name, value ?? null])),
    ]),
  )
}

function settingFaults({ name, configs }: TopicPlan, there: ReadonlyMap<string, string | null>): string[] {
  return FIXED.flatMap((setting) => {
    const [wanted, found] = [configs[setting], there.get(setting)]
    if (wanted === undefined || found === undefined || isEnough(setting, wanted, found)) return []
    const how = `kafka-configs.sh --alter --topic ${name} --add-config ${setting}=[${wanted}]`
    return [`${name} has ${setting}=${found} and needs ${wanted}: ${how}`]
  })
}

/** A longer retention than requested is no fault, except that permanent retention must stay permanent. */
function isEnough(setting: (typeof FIXED)[number], wanted: string, found: string | null): boolean {
  if (setting === 'cleanup.policy') return sorted(wanted) === sorted(found ?? '')
  if (found === '-1') return true
  return wanted !== '-1' && Number(found) >= Number(wanted)
}

function sorted(list: string): string {
  return list.split(',').sort().join(',')
}
