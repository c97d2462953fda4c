import { Command, Option } from 'commander'
import { loadConfig } from '../config/config.ts'
import { SETTINGS } from '../config/settings.ts'
import { createLogger } from './logger.ts'
import { withExamples } from './output.ts'
import { START_ENDS_MS, StopSignals } from './stop-signals.ts'

/** `xqueue serve` and `xqueue worker`: the long-running processes. */
export function serveCommands(): Command[] {
  const serve = withSettings(new Command('serve'))
    .description('run the server and a worker with your handlers')
    .option('--no-worker', 'run the server without a worker')
    .action(({ worker, ...flags }: { worker: boolean }) => run(flags, { server: true, worker }))
  const worker = withSettings(new Command('worker'))
    .description('run a worker without a server')
    .action((flags: object) => run(flags, { server: false, worker: true }))
  return [
    withExamples(serve, 'xqueue serve --handlers handlers.ts', 'xqueue serve --no-worker --port 9000'),
    withExamples(worker, 'xqueue worker --handlers handlers.ts --concurrency 50'),
  ]
}

export function withSettings(command: Command): Command {
  for (const { name, type, doc, default: fallback } of SETTINGS) {
    const text = `${doc}${fallback === null ? '' : ` (default ${fallback})`}`
    // A flag without a value means true.
    if (type.kind === 'flag') command.addOption(new Option(`--${name} [value]`, text).preset('true'))
    else command.option(`--${name} <value>`, text)
  }
  return command
}

/** Commander names flags in camelCase; settings use dashes. */
export function settingsOf(flags: object): Record<string, string> {
  const dashed = Object.entries(flags).map(([name, value]) => [
    name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`),
    value,
  ])
  return Object.fromEntries(dashed)
}

async function run(flags: object, parts: { server: boolean; worker: boolean }): Promise<void> {
  const stop = new StopSignals()
  const { config } = await loadConfig(settingsOf(flags), process.env, process.cwd())
  const logger = await createLogger(config)
  stop.on((signal, isStarting) => {
    const what = isStarting ? 'stopping during the start' : 'shutting down: running tasks may finish'
    logger.info({ signal, up_to_ms: isStarting ? START_ENDS_MS : config.shutdownMs }, what)
  })
  // Loaded here, so that commands that only call a server start fast.
  const { startApp } = await import('../app.ts')
  const app = await startApp(config, parts, logger, undefined, stop.signal).catch((error: unknown) => {
    if (stop.signal.aborted) return null
    throw error
  })
  if (app && !stop.signal.aborted) {
    logger.info({ engine: config.engine.split('@').at(-1), address: app.address }, 'xqueue is ready')
    await stop.wanted()
  }
  await app?.stop()
  logger.info('stopped')
  process.exit(0)
}
