import { readdirSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { pino } from 'pino'
import { startApp } from '../../src/app.ts'
import { loadConfig } from '../../src/config/config.ts'
import { normalizeHandlers } from '../../src/worker/handlers.ts'

/** One process of a soak: `serve` is a server, `work` a worker. Tells what it takes whenever it is asked. */
export interface SoakInput {
  role: 'serve' | 'work'
  flags: Record<string, string>
}

export interface Resources {
  heapBytes: number
  rssBytes: number
  files: number
}

const { role, flags } = JSON.parse(process.argv[2]!) as SoakInput
const { config } = await loadConfig({ port: '0', mqtt: 'off', ...flags }, {}, process.cwd())
const handlers = normalizeHandlers({ soak: { queueTimeout: 0, run: () => sleep(2) } })
const logger = pino({ level: process.env.TEST_FAULT_LOG ?? 'silent' }, pino.destination({ fd: 2, sync: true }))
const app = await startApp(config, { server: role === 'serve', worker: role === 'work' }, logger, handlers)

process.on('message', async (asked: 'resources' | 'stop') => {
  if (asked === 'resources') process.send!(resources())
  else {
    await app.stop()
    process.exit(0)
  }
})
process.once('disconnect', () => process.exit(1))
process.send!(app.address)

/** The heap after a full collection. */
function resources(): Resources {
  for (let time = 0; time < 3; time++) globalThis.gc!()
  const { heapUsed, external, rss } = process.memoryUsage()
  return { heapBytes: heapUsed + external, rssBytes: rss, files: readdirSync('/proc/self/fd').length }
}
