import { type ChildProcess, fork, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Row, ratioRow } from './report.ts'
import { freePort } from './servers.ts'

const TASKS = 120_000
/** Mosquitto takes a fraction of what the queue does, and 100,000 events wait for it. */
const TASKS_MOSQUITTO = 20_000
/** Two changes of each task while it is processed, on two topics. */
const MESSAGES_PER_TASK = 4
/** The clock that /proc counts in. */
const TICK_US = 10_000

const VARIANTS = [
  { name: 'nobody subscribed', broker: 'embedded', filter: null, qos: 0 },
  { name: 'one subscriber to one task', broker: 'embedded', filter: 'one', qos: 0 },
  { name: 'one subscriber to everything', broker: 'embedded', filter: 'xqueue/#', qos: 0 },
  { name: 'one subscriber to everything, QoS 1', broker: 'embedded', filter: 'xqueue/#', qos: 1 },
  { name: 'Mosquitto, one subscriber to everything', broker: 'mosquitto', filter: 'xqueue/#', qos: 0 },
] as const

interface Round {
  tasksPerS: number
  /** Of the process that has the queue. */
  cpuUs: number
  /** Of the subscriber, and of a broker of its own. */
  othersUs: number
}

/** What publishing takes from the queue: at full load, beside the same without MQTT. All share the machine's cores. */
export async function live(rounds: number): Promise<Row[]> {
  const rows: Row[] = []
  for (const { name, broker, filter, qos } of VARIANTS) {
    const tasks = broker === 'mosquitto' ? TASKS_MOSQUITTO : TASKS
    const [on, off]: [Round[], Round[]] = [[], []]
    for (let round = 0; round < rounds; round++) {
      off.push(await measure(tasks, 'off', null, 0))
      on.push(await measure(tasks, broker, filter, qos))
    }
    const perEvent = on.map(({ cpuUs }, round) => (cpuUs - off[round]!.cpuUs) / (2 * tasks))
    const others = on.map(({ othersUs }) => othersUs / (2 * tasks))
    const [ours, theirs] = [on, off].map((taken) => taken.map(({ tasksPerS }) => tasksPerS)) as [number[], number[]]
    rows.push(
      ratioRow(`MQTT, ${name}: processing`, 'tasks/s', ours, 'MQTT off', theirs),
      ratioRow(`MQTT, ${name}: CPU per change`, 'µs', perEvent, 'subscriber and broker', others),
    )
  }
  return rows
}

async function measure(tasks: number, broker: string, filter: string | null, qos: number): Promise<Round> {
  const folder = mkdtempSync(join(tmpdir(), 'xqueue-bench-'))
  const mosquitto = broker === 'mosquitto' ? await startMosquitto(folder) : null
  const load = part('load.ts', join(folder, 'x.db'), mosquitto?.url ?? broker, String(tasks))
  const { url, id } = (await said(load)) as { url: string; id: string }
  const topic = filter === 'one' ? `xqueue/tasks/${id}` : filter
  // Of the one task: that it has begun and has ended.
  const messages = filter === 'one' ? 2 : tasks * MESSAGES_PER_TASK
  const listener = topic === null ? null : part('listener.ts', url, topic, String(qos), String(messages))
  const listening = listener && (await said(listener))
  const heard = listening && said(listener)
  load.send('go')
  const { tasksPerS } = (await said(load)) as { tasksPerS: number }
  const spent = (await heard) as NodeJS.CpuUsage | null
  load.send('stop')
  const { cpuUs } = (await said(load)) as { cpuUs: number }
  const othersUs = (spent ? spent.user + spent.system : 0) + (mosquitto?.cpuUs() ?? 0)
  listener?.kill()
  await once(load, 'exit')
  await mosquitto?.stop()
  rmSync(folder, { recursive: true })
  return { tasksPerS, cpuUs, othersUs }
}

function part(file: string, ...args: string[]): ChildProcess {
  return fork(join(import.meta.dirname, 'live', file), args)
}

async function said(child: ChildProcess): Promise<unknown> {
  const ended = once(child, 'exit').then(([code]) => {
    throw new Error(`a process of the bench ended with ${code}`)
  })
  return Promise.race([once(child, 'message').then(([message]) => message), ended])
}

async function startMosquitto(folder: string) {
  const port = await freePort()
  const settings = ['allow_anonymous true', 'max_queued_messages 0', `listener ${port} 127.0.0.1`]
  const file = join(folder, 'mosquitto.conf')
  writeFileSync(file, settings.join('\n'))
  const child = spawn('mosquitto', ['-c', file], { stdio: 'ignore' })
  await new Promise<void>((resolve, reject) => {
    child.once('error', () => reject(new Error('mosquitto is needed for this suite (apt-get install mosquitto)')))
    const knock = () =>
      connect(port, '127.0.0.1', resolve).once('error', () => {
        if (child.exitCode === null) setTimeout(knock, 50)
      })
    knock()
  })
  return {
    url: `mqtt://127.0.0.1:${port}`,
    cpuUs: () => {
      const [user, system] = readFileSync(`/proc/${child.pid}/stat`, 'utf8').split(' ').slice(13, 15).map(Number)
      return (user! + system!) * TICK_US
    },
    stop: async () => {
      child.kill()
      if (child.exitCode === null) await once(child, 'exit')
    },
  }
}
