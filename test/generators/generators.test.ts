import { cpSync, mkdirSync, mkdtempSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { pathOf } from '../fixtures/installed.ts'
import { removeAtExit } from '../fixtures/processes.ts'
import { type Program, startProgram } from '../fixtures/program.ts'
import { python } from '../fixtures/python.ts'
import { here, jars, npmTools, run } from './tools.ts'

/**
 * Third-party generators read the document, each with its own defaults. Their clients compile, and
 * submits, gets, lists and cancels a task, sets and removes a limit, and receives an error, at a real server.
 */

const VERSIONS = { oapi: 'v2.8.2', ogen: 'v1.25.0' }
const root = join(here, '../..')
const work = removeAtExit(mkdtempSync(join(tmpdir(), 'xqueue-generators-')))
const document = join(work, 'openapi.json')
let program: Program

beforeAll(async () => {
  program = await startProgram({ guarded: true })
  writeFileSync(document, await (await fetch(`${program.url}/openapi.json`)).text())
})

const folder = (name: string) => {
  const path = join(work, name)
  mkdirSync(path, { recursive: true })
  return path
}
const atServer = () => [program.url, program.token]

describe.runIf(pathOf('mvn'))('openapi-generator', { timeout: 300_000 }, () => {
  const generate = async (language: string, to: string, ...more: string[]) => {
    const cli = readdirSync(jars()).find((name) => name.startsWith('openapi-generator-cli'))!
    const jar = ['-Xmx512m', '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1', '-jar', join(jars(), cli)]
    const only = ['apiDocs=false', 'modelDocs=false', 'apiTests=false', 'modelTests=false']
    const what = ['--global-property', ['apis', 'models', 'supportingFiles', ...only].join()]
    await run(work, 'java', ...jar, 'generate', '-g', language, '-i', document, '-o', to, ...what, ...more)
  }

  it('python', async () => {
    const programs = python('urllib3==2.*', 'python_dateutil==2.*', 'pydantic==2.*', 'typing-extensions==4.*')
    const made = folder('python')
    await generate('python', made)
    cpSync(join(here, 'python/generated.py'), join(made, 'generated.py'))
    expect(await run(made, join(programs!, 'python'), 'generated.py', ...atServer())).toBe('OK\n')
  })

  it('java', async () => {
    const made = folder('java')
    await generate('java', made, '--library', 'native')
    const needed = readdirSync(jars()).filter((name) => !name.startsWith('openapi-generator-cli'))
    const classes = needed.map((name) => join(jars(), name)).join(delimiter)
    const sources = readdirSync(join(made, 'src/main/java'), { recursive: true, encoding: 'utf8' })
    const files = sources.filter((name) => name.endsWith('.java')).map((name) => join(made, 'src/main/java', name))
    writeFileSync(join(made, 'sources'), [...files, join(here, 'java/Main.java')].join('\n'))
    await run(made, 'javac', '-nowarn', '-d', 'classes', '-cp', classes, '@sources')
    const output = await run(made, 'java', '-cp', `classes${delimiter}${classes}`, 'Main', ...atServer())
    expect(output).toBe('OK\n')
  })

  it('go', async () => {
    const made = goModule()
    await generate('go', join(made, 'generated/client'), '--additional-properties=packageName=client,withGoMod=false')
    await runGo(made, 'generated')
  })
})

describe.runIf(pathOf('go'))('generators in Go', { timeout: 300_000 }, () => {
  it('oapi-codegen', async () => {
    const made = goModule()
    mkdirSync(join(made, 'oapi/client'))
    const tool = `github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@${VERSIONS.oapi}`
    await run(made, 'go', 'run', tool, '-config', 'oapi/config.yaml', document)
    await runGo(made, 'oapi')
  })

  it('ogen', async () => {
    const made = goModule()
    const tool = `github.com/ogen-go/ogen/cmd/ogen@${VERSIONS.ogen}`
    await run(made, 'go', 'run', tool, '--target', 'ogen/client', '--package', 'client', document)
    await runGo(made, 'ogen')
  })
})

function goModule(): string {
  const made = folder('go')
  cpSync(join(here, 'go'), made, { recursive: true })
  return made
}

async function runGo(made: string, name: string): Promise<void> {
  await run(made, 'go', 'build', '-o', `bin/${name}`, `./${name}`)
  expect(await run(made, join(made, 'bin', name), ...atServer())).toBe('OK\n')
}

describe('generators in TypeScript', { timeout: 300_000 }, () => {
  const prepared = () => {
    const made = folder('npm')
    cpSync(join(here, 'npm'), made, { recursive: true })
    symlinkSync(join(npmTools(), 'node_modules'), join(made, 'node_modules'))
    return {
      made,
      tool: (name: string, ...args: string[]) => run(made, join(made, 'node_modules/.bin', name), ...args),
    }
  }
  const { made, tool } = prepared()
  const started = async (name: string) => {
    await run(
      made,
      join(root, 'node_modules/.bin/rolldown'),
      `${name}.ts`,
      '--platform',
      'node',
      '--file',
      `${name}.mjs`,
    )
    expect(await run(made, process.execPath, `${name}.mjs`, ...atServer())).toBe('OK\n')
  }

  it('@hey-api/openapi-ts, openapi-typescript with openapi-fetch', async () => {
    await tool('openapi-ts', '-i', document, '-o', 'hey')
    await tool('openapi-typescript', document, '-o', 'schema.ts')
    await tool('tsc', '--noEmit')
    await started('hey')
    await started('fetch')
  })

  it('Redocly and Spectral report nothing', async () => {
    await tool('redocly', 'lint', document, '--format', 'summary', '--max-problems', '1')
    await tool('spectral', 'lint', document, '--fail-severity', 'hint')
  })
})

it('openapi-python-client', { timeout: 300_000 }, async () => {
  const programs = python('openapi-python-client==0.29.*')
  const made = folder('attrs')
  const config = join(made, 'config.yaml')
  writeFileSync(config, 'post_hooks: []\n')
  const args = ['generate', '--path', document, '--output-path', 'made', '--config', config, '--fail-on-warning']
  await run(made, join(programs!, 'openapi-python-client'), ...args)
  cpSync(join(here, 'python/attrs_client.py'), join(made, 'made/attrs_client.py'))
  expect(await run(join(made, 'made'), join(programs!, 'python'), 'attrs_client.py', ...atServer())).toBe('OK\n')
})
