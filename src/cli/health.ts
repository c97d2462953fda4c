import { Command } from 'commander'
import { addressOf, authorizationOf, type Server } from '../client/call.ts'
import { XQueueError } from '../task/errors.ts'
import { type ClientOptions, EXIT, show, withClientOptions, withExamples } from './output.ts'
import { durationText, facts } from './terminal.ts'

interface Health {
  status: 'healthy' | 'degraded' | 'unhealthy'
  engine?: string
  durability?: string
  /** Seconds */
  uptime?: number
  timestamp?: string
  checks?: { name: string; ok: boolean; detail: string }[]
}

const ANSWER_MS_MAX = 10_000

/** `xqueue health`: the answer of /api/v1/health as an exit code for containers and scripts. */
export function healthCommand(): Command {
  const command = withClientOptions(new Command('health'))
    .description('check whether the server accepts tasks; exits with 1 if not, with 3 without an answer')
    .action(async (options: ClientOptions) => {
      const health = await ask(options.server)
      show(health, options, ({ checks = [], timestamp: _, uptime, ...rest }) =>
        facts({
          ...rest,
          ...(uptime === undefined ? {} : { uptime: durationText(uptime * 1_000) }),
          ...Object.fromEntries(checks.map(({ name, ok, detail }) => [name, `${mark(ok)} ${detail}`])),
        }),
      )
      if (health.status === 'unhealthy') process.exitCode = EXIT.failed
    })
  return withExamples(command, 'xqueue health', 'xqueue health --server https://queue.example --json')
}

/** Unlike other calls, this one also returns data with status 503. */
async function ask(server: Server): Promise<Health> {
  try {
    const signal = AbortSignal.timeout(ANSWER_MS_MAX)
    const response = await fetch(addressOf(server, '/health'), { headers: authorizationOf(server), signal })
    const health = (await response.json()) as Health
    if (!['healthy', 'degraded', 'unhealthy'].includes(health.status)) throw new Error('the answer is not from XQueue')
    return health
  } catch (error) {
    const why = (error as { cause?: Error }).cause?.message ?? (error as Error).message
    throw new XQueueError(
      'engine_unavailable',
      `${server.url} does not answer (${why}): check that \`xqueue serve\` runs there`,
    )
  }
}

function mark(ok: boolean): string {
  return ok ? '✓' : '✗'
}
