import { hostname, userInfo } from 'node:os'
import { Command } from 'commander'
import { CALL_RATE_LIMITS } from '../access/call-rates.ts'
import type { KeyRing } from '../access/key-ring.ts'
import { type Config, loadConfig } from '../config/config.ts'
import { type ApiKey, type CallRate, isScope, KEY_NAME_PATTERN, SCOPES, type Scope } from '../task/api-key.ts'
import { boundsOf } from '../task/bounds.ts'
import { parseDurationMs } from '../task/duration.ts'
import { XQueueError } from '../task/errors.ts'
import { rateText } from './limit-text.ts'
import { print, withExamples } from './output.ts'
import { table } from './terminal.ts'

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

/** `xqueue keys`: accesses the engine directly, so the first key needs no server and no key. */
export function keysCommand(): Command {
  const keys = new Command('keys').description('create, list and revoke API keys, directly on the engine')
  const create = ofEngine(new Command('create'))
    .description('create a key and print it once; only its hash is stored')
    .argument('<name>', 'name of the key, shown in lists and in the audit log')
    .requiredOption(
      '--scopes <scopes>',
      `comma-separated scopes: ${SCOPES.join(', ')}; admin includes all, read includes view`,
    )
    .option('--types <types>', 'restrict the key to these task types, comma-separated; report.* is a prefix')
    .option('--groups <groups>', 'restrict the key to tasks of these groups, comma-separated')
    .option('--expires <duration>', 'lifetime of the key, such as 90d (default: unlimited)')
    .option('--rate <max/per>', 'maximum number of calls in any window, such as 100/1m (default: unlimited)')
    .action(createKey)
  const list = ofEngine(new Command('list'))
    .description('list the keys with the number of their sessions')
    .option('--sessions', 'list the sessions instead')
    .action((options: ListOptions) => onRing(options, (ring) => listKeys(ring, options)))
  const revoke = ofEngine(new Command('revoke'))
    .description('revoke a key with its sessions, or one session, in all processes within a second')
    .argument('<name>', 'name or id of a key, or id of a session')
    .option('--tokens-only', 'revoke only the subscription tokens created with it until now')
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
  for (const command of examples) keys.addCommand(command)
  return keys
}

function ofEngine(command: Command): Command {
  return command
    .option('--engine <url>', 'engine that stores the keys, as for `serve` (or XQUEUE_ENGINE)')
    .option('--json', 'print JSON')
}

type Audit = (action: string, key: ApiKey) => void

async function onRing(options: KeyOptions, work: (ring: KeyRing, audit: Audit) => Promise<void>): Promise<void> {
  const flags = options.engine === undefined ? {} : { engine: options.engine }
  const { config } = await loadConfig(flags, process.env, process.cwd())
  if (config.engine.startsWith('sqlite::memory:')) {
    throw new XQueueError('invalid_config', 'the engine sqlite::memory: is visible to its own process only: use a file')
  }
  const audit = await auditIn(config)
  // Loaded here, so that commands that only call a server start fast.
  const [{ KeyRing }, { openQueue }] = await Promise.all([import('../access/key-ring.ts'), import('../queue/open.ts')])
  const engine = await openQueue(config.engine)
  await work(new KeyRing(engine), audit).finally(() => engine.close())
}

/**
 * Writes a line in the format of a server's audit log, with the user and the host of this machine. On a terminal it
 * would hide the answer.
 */
async function auditIn(config: Config): Promise<Audit> {
  if (process.stderr.isTTY) return () => {}
  const { createLogger } = await import('../logger.ts')
  const log = (await createLogger(config)).child({ audit: true }, { level: 'info' })
  const actor = `${userName()}@${hostname()}`
  return (action, { id, name, scopes, bounds }) => {
    log.info({ actor, actor_id: 'cli', action, target: id, name, scopes, ...(bounds ? { bounds } : {}) }, 'audit')
  }
}

async function createKey(name: string, options: CreateOptions): Promise<void> {
  if (!KEY_NAME_PATTERN.test(name)) {
    throw new XQueueError(
      'invalid_config',
      `the name ${JSON.stringify(name)} is not valid: use up to 64 letters, digits and . _ @ -`,
    )
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
      process.stderr.write(`The key ${name} (${key.id}) is not shown again: store it like a password.\n`)
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
    return [name, id, scopes.join(','), within, rate && rateText(rate), created_at, expires_at, sessions(id)]
  })
  if (keys.length === 0) return print('no keys: create one with `xqueue keys create NAME --scopes …`')
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
    const have = keys.length > 0 ? `known keys are ${keys.map(({ name }) => name).join(', ')}` : 'there are no keys'
    throw new XQueueError('not_found', `key ${JSON.stringify(nameOrId)} not found: ${have}`)
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
  throw new XQueueError('invalid_config', `--scopes contains "${unknown}": use ${SCOPES.join(', ')}`)
}

function rateOf(text: string): CallRate {
  const [, max, per] = /^([1-9]\d{0,5})\/(.+)$/.exec(text) ?? []
  const rate = { max: Number(max), perMs: per === undefined ? 0 : parseDurationMs(per) }
  const { max: most, perMs } = CALL_RATE_LIMITS
  if (max !== undefined && rate.max <= most && rate.perMs >= 1 && rate.perMs <= perMs) return rate
  throw new XQueueError(
    'invalid_config',
    `--rate ${text} must be calls/time, such as 100/1m: at most ${most} calls in at most 24h`,
  )
}

function userName(): string {
  try {
    return userInfo().username
  } catch {
    return `uid-${process.getuid?.()}` // In a container, a user may have no name.
  }
}
