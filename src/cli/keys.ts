import { hostname, userInfo } from 'node:os'
import { Command } from 'commander'
import { CALL_RATE_LIMITS } from '../access/call-rates.ts'
import { KeyRing } from '../access/key-ring.ts'
import { type Config, loadConfig } from '../config/config.ts'
import { openEngine } from '../engine/open.ts'
import { type ApiKey, type CallRate, isScope, KEY_NAME_PATTERN, SCOPES, type Scope } from '../task/api-key.ts'
import { boundsOf } from '../task/bounds.ts'
import { parseDurationMs } from '../task/duration.ts'
import { XQueueError } from '../task/errors.ts'
import { createLogger } from './logger.ts'
import { print, table, withExamples } from './output.ts'

interface KeyOptions {
  engine?: string
  json?: boolean
}

interface ListOptions extends KeyOptions {
  sessions?: boolean
}

interface RevokeOptions extends KeyOptions {
  tokensOnly?: boolean
}

interface CreateOptions extends KeyOptions {
  scopes: string
  expires?: string
  rate?: string
  types?: string
  groups?: string
}

/** `xqueue keys`: works on the engine itself, so the first key needs no server and no key. */
export function keysCommand(): Command {
  const keys = new Command('keys').description('API keys: create, list, revoke; on the engine itself, without a server')
  const create = ofEngine(new Command('create'))
    .description('create a key, and print it this once: only its hash is kept')
    .argument('<name>', 'what it is for; shown in lists and in the audit log')
    .requiredOption('--scopes <scopes>', `of ${SCOPES.join(', ')}, with commas; admin includes all, read includes view`)
    .option('--types <types>', 'only these task types exist for it, with commas; report.* is all that begin so')
    .option('--groups <groups>', 'only tasks of these groups exist for it, with commas')
    .option('--expires <duration>', 'after which it no longer works, as in 90d; default never')
    .option('--rate <max/per>', 'calls in any window of time, as in 100/1m; default no limit')
    .action(createKey)
  const list = ofEngine(new Command('list'))
    .description('list the keys, and how many are logged in with each')
    .option('--sessions', 'list the sessions instead')
    .action((options: ListOptions) => onRing(options, (ring) => listKeys(ring, options)))
  const revoke = ofEngine(new Command('revoke'))
    .description('revoke a key and all sessions opened with it, or one session: within a second, in every process')
    .argument('<name>', 'the name or the id of a key, or the id of a session')
    .option('--tokens-only', 'revoke only the subscription tokens made with it until now')
    .action((name: string, options: RevokeOptions) =>
      onRing(options, (ring, audit) => revokeKey(ring, audit, name, options)),
    )
  const examples = [
    withExamples(
      create,
      'xqueue keys create admin --scopes admin',
      'xqueue keys create shop --scopes submit,read --expires 90d --rate 100/1m',
      'xqueue keys create acme --scopes submit,read --types email,report.* --groups acme',
    ),
    withExamples(list, 'xqueue keys list', 'xqueue keys list --sessions --engine redis://localhost --json'),
    withExamples(revoke, 'xqueue keys revoke shop --tokens-only', 'xqueue keys revoke shop'),
  ]
  for (const command of examples) keys.addCommand(command.exitOverride())
  return keys
}

function ofEngine(command: Command): Command {
  return command
    .option('--engine <url>', 'where the keys are kept, as for `serve` (also XQUEUE_ENGINE)')
    .option('--json', 'print JSON')
}

type Audit = (action: string, key: ApiKey) => void

async function onRing(options: KeyOptions, work: (ring: KeyRing, audit: Audit) => Promise<void>): Promise<void> {
  const flags = options.engine === undefined ? {} : { engine: options.engine }
  const { config } = await loadConfig(flags, process.env, process.cwd())
  if (config.engine.startsWith('sqlite::memory:')) {
    throw new XQueueError('invalid_config', 'what is in the memory of a process only that process sees: name a file')
  }
  const audit = await auditIn(config)
  const engine = await openEngine(config.engine)
  await work(new KeyRing(engine), audit).finally(() => engine.close())
}

/** In the form of a server's audit log; who it was is what the machine knows. */
async function auditIn(config: Config): Promise<Audit> {
  const log = (await createLogger(config)).child({ audit: true }, { level: 'info' })
  const actor = `${userName()}@${hostname()}`
  return (action, { id, name, scopes, bounds }) => {
    log.info({ actor, actor_id: 'cli', action, target: id, name, scopes, ...(bounds ? { bounds } : {}) }, 'audit')
  }
}

async function createKey(name: string, options: CreateOptions): Promise<void> {
  if (!KEY_NAME_PATTERN.test(name)) {
    throw new XQueueError('invalid_config', `"${name}" cannot be a name: use up to 64 letters, digits and . _ @ -`)
  }
  const scopes = scopesOf(options.scopes)
  const rate = options.rate === undefined ? null : rateOf(options.rate)
  const bounds = boundsOf(namesIn(options.types), namesIn(options.groups))
  const expiresAt = options.expires === undefined ? null : Date.now() + parseDurationMs(options.expires)
  await onRing(options, async (ring, audit) => {
    const { token, key } = await ring.add({ name, scopes, rate, bounds, expiresAt, session: null })
    audit('keys create', key)
    if (options.json) print(JSON.stringify({ ...keyJson(key), key: token }))
    else {
      print(token)
      process.stderr.write(`This is the only time that ${name} (${key.id}) is shown: keep it like a password.\n`)
    }
  })
}

async function listKeys(ring: KeyRing, { json, sessions: asSessions = false }: ListOptions): Promise<void> {
  const all = await ring.all()
  if (asSessions) return listSessions(all, json)
  const keys = all.filter(({ session }) => session === null)
  const sessions = (id: string) => all.filter(({ session }) => session?.of === id).length
  if (json) return print(JSON.stringify(keys.map((key) => ({ ...keyJson(key), sessions: sessions(key.id) }))))
  const rows = keys.map((key) => {
    const { id, name, scopes, types, groups, rate, created_at, expires_at } = keyJson(key)
    const within = [types?.join(','), groups?.join(',')].filter((names) => names !== undefined).join(' / ')
    return [
      name,
      id,
      scopes.join(','),
      within,
      rate && `${rate.max}/${rate.per}s`,
      created_at,
      expires_at,
      sessions(id),
    ]
  })
  print(table(['NAME', 'ID', 'SCOPES', 'WITHIN', 'RATE', 'CREATED', 'EXPIRES', 'SESSIONS'], rows))
}

function listSessions(all: readonly ApiKey[], json: boolean | undefined): void {
  const sessions = all.flatMap((key) => (key.session ? [{ ...keyJson(key), opened_with: key.session.of }] : []))
  if (json) {
    print(JSON.stringify(sessions))
    return
  }
  const rows = sessions.map(({ id, name, scopes, opened_with, created_at, expires_at }) => {
    return [id, name, opened_with, scopes.join(','), created_at, expires_at]
  })
  print(table(['ID', 'NAME', 'OPENED WITH', 'SCOPES', 'CREATED', 'EXPIRES'], rows))
}

async function revokeKey(
  ring: KeyRing,
  audit: Audit,
  nameOrId: string,
  { json, tokensOnly = false }: RevokeOptions,
): Promise<void> {
  const all = await ring.all()
  const keys = all.filter(({ session }) => session === null)
  const key = keys.find(({ name }) => name === nameOrId) ?? all.find(({ id }) => id === nameOrId)
  if (!key) {
    const have = keys.length > 0 ? `there are ${keys.map(({ name }) => name).join(', ')}` : 'there is none'
    throw new XQueueError('not_found', `there is no key ${JSON.stringify(nameOrId)}: ${have}`)
  }
  if (tokensOnly) await ring.revokeTokens(key)
  else await ring.drop(key.id)
  audit(tokensOnly ? 'keys revoke --tokens-only' : 'keys revoke', key)
  const what = tokensOnly ? `subscription tokens of ${key.name} (${key.id})` : `${key.name} (${key.id})`
  print(json ? JSON.stringify(keyJson(key)) : `${what} revoked`)
}

function keyJson({ id, name, scopes, rate, bounds, createdAt, expiresAt }: ApiKey) {
  return {
    id,
    name,
    scopes,
    types: bounds?.types ?? null,
    groups: bounds?.groups ?? null,
    rate: rate && { max: rate.max, per: rate.perMs / 1_000 },
    created_at: new Date(createdAt).toISOString(),
    expires_at: expiresAt === null ? null : new Date(expiresAt).toISOString(),
  }
}

function namesIn(text: string | undefined): string[] | undefined {
  return text?.split(',').map((name) => name.trim())
}

function scopesOf(text: string): Scope[] {
  const words = text.split(',').map((word) => word.trim())
  const unknown = words.find((word) => !isScope(word))
  if (unknown === undefined) return [...new Set(words as Scope[])]
  throw new XQueueError('invalid_config', `--scopes has "${unknown}": there are ${SCOPES.join(', ')}`)
}

function rateOf(text: string): CallRate {
  const [, max, per] = /^([1-9]\d{0,5})\/(.+)$/.exec(text) ?? []
  const rate = { max: Number(max), perMs: per === undefined ? 0 : parseDurationMs(per) }
  const { max: most, perMs } = CALL_RATE_LIMITS
  if (max !== undefined && rate.max <= most && rate.perMs >= 1 && rate.perMs <= perMs) return rate
  throw new XQueueError('invalid_config', `--rate ${text} must be calls/time, as in 100/1m: up to ${most} in up to 24h`)
}

function userName(): string {
  try {
    return userInfo().username
  } catch {
    return `uid-${process.getuid?.()}` // In a container a user may have no name.
  }
}
