import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pino } from 'pino'
import { Registry } from 'prom-client'
import { openEngine } from '../src/engine/open.ts'
import { createServer } from '../src/server/server.ts'

/** `npm run reference`: writes docs/reference/ from the program's own help and the server's own OpenAPI document. */

const root = join(import.meta.dirname, '..')
/** What any call may answer, told once. */
const ANY = ['401', '403', '408', '415', '431', '500', '503']
const MARK = '<!-- Made by `npm run reference`: do not edit. -->'

interface Operation {
  summary?: string
  description?: string
  parameters?: { name: string; in: string; schema?: Schema; description?: string }[]
  requestBody?: { content: Record<string, { schema?: Schema }> }
  responses?: Record<string, { description?: string }>
}
interface Schema {
  type?: string | string[]
  description?: string
  enum?: unknown[]
  properties?: Record<string, Schema>
  required?: string[]
}

/** The files by their names under docs/reference/. */
export async function reference(): Promise<Map<string, string>> {
  return new Map([
    ['cli.md', commandLine()],
    ['http.md', await http()],
  ])
}

function commandLine(): string {
  const help = (...words: string[]) => {
    const args = [join(root, 'src/cli/main.ts'), ...words, '--help']
    // Neither a file of settings nor a variable of whoever runs this changes what is the default.
    return execFileSync(process.execPath, args, { encoding: 'utf8', env: {}, cwd: '/' }).trim()
  }
  const commandsIn = (text: string) =>
    [...(text.split('\nCommands:\n')[1] ?? '').matchAll(/^ {2}([a-z-]+)/gm)].flatMap(([, name]) =>
      name === 'help' ? [] : [name!],
    )
  const top = help()
  const parts = commandsIn(top).flatMap((name) => {
    const text = help(name)
    return [`## ${name}`, block(text), ...commandsIn(text).map((sub) => block(help(name, sub)))]
  })
  return `${[MARK, '# Command line', block(top), ...parts].join('\n\n')}\n`
}

async function http(): Promise<string> {
  const engine = await openEngine('sqlite::memory:')
  const logger = pino({ level: 'silent' })
  const registry = new Registry()
  const server = await createServer({ engine, handlers: new Map(), logger, version: '0', instanceId: '', registry })
  const document = (await server.inject('/openapi.json')).json()
  await server.close()
  await engine.close()
  const paths = Object.entries(document.paths as Record<string, Record<string, Operation>>)
  const calls = paths.flatMap(([path, methods]) =>
    Object.entries(methods).flatMap(([method, operation]) => call(`${method.toUpperCase()} ${path}`, operation)),
  )
  const intro =
    'Every call, its fields and its answers. A running server shows the same with all schemas at `/docs`, and as OpenAPI 3.1\n' +
    'at `/openapi.json`. Errors are `application/problem+json` (RFC 9457) with a stable `code`;\n' +
    `any call may answer ${ANY.join(', ')}, which the document at \`/openapi.json\` tells for each.`
  return `${[MARK, '# HTTP API', intro, ...calls].join('\n\n')}\n`
}

function call(
  title: string,
  { summary, description, parameters = [], requestBody, responses = {} }: Operation,
): string[] {
  const body = requestBody?.content['application/json']?.schema
  const fields = [
    ...parameters.map(({ name, in: where, schema, description: says }) =>
      row(name, where, schema, says ?? schema?.description),
    ),
    ...Object.entries(body?.properties ?? {}).map(([name, schema]) =>
      row(name, body?.required?.includes(name) ? 'body, required' : 'body', schema, schema.description),
    ),
  ]
  const table =
    fields.length === 0 ? [] : [['| field | in | type | is |', '| --- | --- | --- | --- |', ...fields].join('\n')]
  const answers = Object.entries(responses)
    .filter(([status]) => !ANY.includes(status))
    .map(([status, { description: says = '' }]) => `${status} ${says.replace('Default Response', '')}`.trim())
  return [
    `## ${title}`,
    ...[summary, description].filter((text) => text !== undefined),
    ...table,
    `Answers: ${answers.join(' · ')}`,
  ]
}

function row(name: string, where: string, schema: Schema | undefined, says: string | undefined): string {
  const values = schema?.enum?.map((value) => `\`${value}\``).join(' ')
  const type = values ?? [schema?.type ?? ''].flat().join(', ')
  return `| \`${name}\` | ${where} | ${type.replaceAll('|', '\\|')} | ${(says ?? '').replaceAll('|', '\\|')} |`
}

function block(text: string): string {
  return `\`\`\`text\n${text.replaceAll(/ +$/gm, '')}\n\`\`\``
}

if (import.meta.main) {
  for (const [name, text] of await reference()) writeFileSync(join(root, 'docs/reference', name), text)
}
