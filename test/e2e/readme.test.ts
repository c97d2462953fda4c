import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeAll, describe, expect, it } from 'vitest'
import { temporaryFolder } from '../fixtures/folder.ts'
import { root } from '../fixtures/root.ts'
import { snippetsOf, writeSnippets } from '../fixtures/snippets.ts'

const DOCUMENTS = ['README.md', 'README.zh-CN.md']

/** The project of a README in its own folder, with the files that the README shows, beside the real sources. */
describe.each(DOCUMENTS)('%s', (document) => {
  let folder: string
  let child: ChildProcess | undefined
  let base: string

  beforeAll(() => {
    folder = temporaryFolder()
    for (const name of ['src', 'handlers', 'node_modules', 'package.json'])
      symlinkSync(join(root, name), join(folder, name))
    writeSnippets(document, folder)
  })
  afterEach(() => stop())

  async function stop(): Promise<void> {
    if (!child) return
    child.kill('SIGKILL')
    await once(child, 'close')
    child = undefined
  }

  /** The shell block that contains a text, unchanged. */
  function block(text: string): string {
    const found = snippetsOf(document).find(({ language, code }) => language === 'sh' && code.includes(text))
    if (!found) throw new Error(`${document} has no shell block with ${text}`)
    return found.code
  }

  const environment = () => ({
    ...process.env,
    PATH: `${dirname(process.execPath)}:${process.env.PATH}`,
    XQUEUE_SERVER: base,
  })

  /** Runs a block in the shell, with the server's real port. */
  async function run(code: string): Promise<string> {
    const script = `set -e\n${code.replaceAll('localhost:8080', new URL(base || 'http://127.0.0.1:8080').host)}`
    const options = { cwd: folder, env: environment(), maxBuffer: 1e7 }
    return (await promisify(execFile)('bash', ['-c', script], options)).stdout
  }

  /** Starts the command of a block that goes on, and waits until it says where it serves. */
  async function start(command: string, ...flags: string[]): Promise<void> {
    const program = command.replace(/npm run xqueue --|npx xqueue/, 'node src/cli/xqueue.ts').replace(/^exec /, '')
    const script = `exec ${program} ${flags.join(' ')}`
    child = spawn('bash', ['-c', script], { cwd: folder, env: environment(), stdio: ['ignore', 'ignore', 'pipe'] })
    base = await new Promise((resolve, reject) => {
      let log = ''
      child!.stderr!.on('data', (chunk) => {
        log += chunk
        const address = /"address":"([^"]+)"/.exec(log)?.[1]
        if (address) resolve(address)
      })
      child!.once('close', () => reject(new Error(log)))
    })
  }

  const startScript = () =>
    (JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).scripts as { start: string }).start

  it('starts, and accepts the tasks of its examples', async () => {
    expect(block('npm start')).toBe('npm ci && npm start\n')
    await start(startScript(), '--port 0')
    const output = await run(block('"type": "email"'))
    const submitted = [...output.matchAll(/"id":"([^"]+)","type":"(\w+)"/g)].map(([, , type]) => type)
    expect(submitted.slice(0, 3)).toEqual(['example', 'email', 'http'])
    expect(output).toContain('"next_cursor"')
  })

  it('shows code that compiles', async () => {
    base = ''
    writeFileSync(join(folder, 'tsconfig.json'), `{"extends": "${join(root, 'tsconfig.json')}", "include": ["*.ts"]}`)
    await run('node node_modules/typescript/bin/tsc --noEmit --rootDir / -p .')
  })

  it('runs its example handlers and client', async () => {
    await start(block('serve --handlers my-handlers.ts').trim(), '--port 0')
    expect(await run('node client.ts')).toBe('90000\n')
  })

  it('shows commands that work', async () => {
    await start(startScript(), '--port 0 --engine sqlite::memory:')
    const blocks = ['submit example \'{"duration": 2}\' --wait', '--group-limit', 'schedule add']
    const commands = blocks.flatMap((text) => block(text).trim().split('\n'))
    expect(commands).toHaveLength(9)
    for (const command of commands) {
      // The doctor is asked about the settings that this server has.
      const flags = command.endsWith('doctor') ? ` --port ${new URL(base).port}` : ''
      expect(await run(command.replace('npm run xqueue --', 'npm run --silent xqueue --') + flags)).not.toBe('')
    }
  })

  it('creates keys, and starts a server that requires one, as documented', async () => {
    base = ''
    const commands = block('keys create').trim().split('\n')
    const keys = commands.slice(0, -1).join('\n').replaceAll('npm run xqueue --', 'npm run --silent xqueue --')
    const [admin = ''] = (await run(keys)).split('\n')
    await start(commands.at(-1)!, '--port 0 --mqtt-port 0')
    const ask = (headers = {}) => fetch(`${base}/api/v1/types`, { headers }).then(({ status }) => status)
    expect([await ask(), await ask({ Authorization: `Bearer ${admin}` })]).toEqual([401, 200])
  })

  it('names every command', async () => {
    base = ''
    const help = await run('node src/cli/xqueue.ts --help')
    const names = [...help.matchAll(/^ {2}([a-z]+)\b/gm)].map(([, name]) => name!).filter((name) => name !== 'help')
    expect(names.length).toBeGreaterThan(20)
    const text = readFileSync(join(root, document), 'utf8')
    expect(names.filter((name) => !text.includes(`\`${name}\``))).toEqual([])
  })
})

it.each(DOCUMENTS)('%s has at most 200 lines', (document) => {
  expect(readFileSync(join(root, document), 'utf8').trimEnd().split('\n').length).toBeLessThanOrEqual(200)
})

it('the READMEs have the same code in each language', () => {
  /** Comments and texts for people are each language's own. */
  const shown = (document: string) =>
    snippetsOf(document).map(({ language, name, code }) => [
      language,
      name,
      code
        .replaceAll(/ \/\/ .*$/gm, '')
        .replaceAll(/(DoNotRetry|log\.info)\('.*?'\)/g, '$1(…)')
        .replaceAll(/"(subject|text)": ".*?"/g, '"$1": …'),
    ])
  const [english, ...others] = DOCUMENTS.map(shown)
  expect(english!.length).toBeGreaterThan(10)
  for (const other of others) expect(other).toEqual(english)
})
