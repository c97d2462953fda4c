import { Command, Option } from 'commander'
import { loadConfig } from '../config/config.ts'
import { SETTINGS } from '../config/settings.ts'
import { XQueueError } from '../task/errors.ts'
import { version } from '../version.ts'
import { inOrder, keyOfEnvironment, withExamples } from './output.ts'
import { START_ENDS_MS, StopSignals } from './stop-signals.ts'

const OVER_HTTP =
  'take tasks from this server over HTTP, not from the store; set its key in XQUEUE_KEY or XQUEUE_KEY_FILE'

/** `xqueue serve` and `xqueue worker`: the long-running processes. */
export function serveCommands(): Command[] {
  const serve = withSettings(new Command('serve'))
    .description('run the server and a worker with your handlers')
    .option('--no-worker', 'run the server without a worker')
    .action(({ worker, ...flags }: { worker: boolean }) => run(flags, { server: true, worker }))
  const worker = withSettings(new Command('worker'), { server: false })
    .description('run a worker without a server')
    .addOption(new Option('--server <url>', OVER_HTTP).helpGroup('Worker:'))
    .action(({ server, ...flags }: { server?: string; engine?: string }) => {
      if (server === undefined) return run(flags, { server: false, worker: true })
      if (flags.engine === undefined) return run(flags, { server: false, worker: true }, server)
      throw new XQueueError('invalid_config', '--server and --engine are both set: a worker uses one of them')
    })
  return [
    withExamples(serve, 'xqueue serve --handlers handlers.ts', 'xqueue serve --no-worker --port 9000'),
    withExamples(
      worker,
      'xqueue worker --handlers handlers.ts --concurrency 50',
      'xqueue worker --handlers handlers.ts --server https://queue.example.com',
    ),
  ]
}

/** Headings of `--help`; a setting belongs to the first whose pattern its name matches. */
const GROUPS: readonly [title: string, names: RegExp][] = [
  ['Store:', /^(engine|store-wait|max-pending|retention|events|payload)/],
  ['Worker:', /^(handlers|concurrency|claim-ahead|lease|shutdown)/],
  ['HTTP server:', /^(host|port|base-path|tls|cors|trusted-proxies|redact|stall-after)/],
  ['Access control:', /^(auth|insecure|jwt|oidc|token)/],
  ['Status over MQTT:', /^mqtt/],
  ['Log:', /^log/],
  ['Included handlers:', /^(smtp|outbox|http-)/],
]
const SERVER_ONLY = ['HTTP server:', 'Access control:']

/** @param parts a command without a server accepts the settings of one, but its help does not show them */
export function withSettings(command: Command, parts = { server: true }): Command {
  for (const { name, type, doc, default: fallback } of SETTINGS) {
    const text = `${doc}${fallback === null ? '' : ` (default ${fallback})`}`
    const flag = type.kind === 'flag'
    // A flag without a value means true.
    const option = flag ? new Option(`--${name} [value]`, text).preset('true') : new Option(`--${name} <value>`, text)
    const title = GROUPS.find(([, names]) => names.test(name))?.[0] ?? 'Options:'
    command.addOption(option.helpGroup(title).hideHelp(!parts.server && SERVER_ONLY.includes(title)))
  }
  const order = GROUPS.map(([title]) => title)
  return command.configureHelp({
    groupItems: (...args) => inOrder(order, args),
    optionDescription: ({ description }) => description,
  })
}

/** Commander names flags in camelCase; settings use dashes. */
export function settingsOf(flags: object): Record<string, string> {
  const dashed = Object.entries(flags).map(([name, value]) => [
    name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`),
    value,
  ])
  return Object.fromEntries(dashed)
}

/** @param serverUrl of a worker over HTTP */
async function run(flags: object, parts: { server: boolean; worker: boolean }, serverUrl?: string): Promise<void> {
  const stop = new StopSignals()
  const { config } = await loadConfig(settingsOf(flags), process.env, process.cwd())
  const { createLogger } = await import('../logger.ts')
  const logger = await createLogger(config)
  stop.on((signal, isStarting) => {
    const what = isStarting ? 'stopping during the start' : 'shutting down: running tasks may finish'
    logger.info({ signal, up_to_ms: isStarting ? START_ENDS_MS : config.shutdownMs }, what)
  })
  // Loaded here, so that commands that only call a server start fast.
  const { startApp, startRemoteApp } = await import('../app.ts')
  const starting =
    serverUrl === undefined
      ? startApp(config, parts, logger, undefined, stop.signal)
      : startRemoteApp({ url: serverUrl, key: keyOfEnvironment() }, config, logger, undefined, stop.signal)
  const app = await starting.catch((error: unknown) => {
    if (stop.signal.aborted) return null
    throw error
  })
  if (app && !stop.signal.aborted) {
    const { address, types } = app
    const at = address === null ? {} : { address, dashboard: `${address}${config.basePath}/` }
    const source = serverUrl === undefined ? { engine: config.engine.split('@').at(-1) } : { server: serverUrl }
    logger.info({ version, ...source, ...at, types }, 'xqueue is ready')
    await stop.wanted()
  }
  await app?.stop()
  logger.info('stopped')
  process.exit(0)
}
