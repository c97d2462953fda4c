import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { delimiter, dirname, join } from 'node:path'
import { expect, it } from 'vitest'
import { temporaryFolder } from '../fixtures/folder.ts'
import { freePort } from '../fixtures/ports.ts'
import { endAtExit } from '../fixtures/processes.ts'
import { root } from '../fixtures/root.ts'
import { type Snippet, snippetsOf, writeSnippets } from '../fixtures/snippets.ts'

const README = 'README.md'
/** Their code is the same; a test below compares it. */
const DOCUMENTS = [README, 'README.zh-CN.md']

/**
 * The npm of this machine, except for what needs a registry or builds the package (test/deploy/package.test.ts installs
 * the real one): a project has the program, and the sources in place of the package.
 */
const NPM = `#!/bin/sh
case "$1" in
  ci) ;;
  pack) echo xqueue.tgz ;;
  install)
    mkdir -p node_modules/.bin
    ln -s '${process.execPath}' node_modules/.bin/node
    printf '#!/bin/sh\\nexec node %s "$@"\\n' '${root}/src/cli/xqueue.ts' > node_modules/.bin/xqueue
    chmod +x node_modules/.bin/xqueue
    ln -s '${root}/src' src ;;
  *) npm=$(PATH="\${PATH#*:}" command -v npm) && exec "$npm" "$@" ;;
esac
`

/** A clone in a folder with room beside it, and the two terminals of the README. */
async function openTerminals() {
  const around = temporaryFolder()
  const [clone, bin] = [join(around, 'clone'), join(around, 'bin')]
  for (const folder of [clone, bin]) mkdirSync(folder)
  for (const name of ['src', 'handlers', 'scripts', 'starter', 'node_modules', 'package.json'])
    symlinkSync(join(root, name), join(clone, name))
  writeFileSync(join(bin, 'npm'), NPM)
  chmodSync(join(bin, 'npm'), 0o755)
  const [port, mqttPort] = [await freePort(), await freePort()]
  const env = {
    ...process.env,
    PATH: [bin, dirname(process.execPath), process.env.PATH].join(delimiter),
    XQUEUE_PORT: `${port}`,
    XQUEUE_MQTT_PORT: `${mqttPort}`,
    XQUEUE_SERVER: `http://127.0.0.1:${port}`,
  }
  return { project: join(around, 'my-queue'), first: new Terminal(clone, env), second: new Terminal(clone, env) }
}

/** A shell whose working directory stays from block to block. */
class Terminal {
  #folder: string
  readonly #env: NodeJS.ProcessEnv
  #running: ChildProcess | undefined

  constructor(folder: string, env: NodeJS.ProcessEnv) {
    this.#folder = folder
    this.#env = env
  }

  /** Runs a block until it ends. @throws Error with the output if a command fails */
  async run(code: string): Promise<string> {
    const child = this.#paste(code)
    let [output, errors] = ['', '']
    child.stdout!.on('data', (chunk) => (output += chunk))
    child.stderr!.on('data', (chunk) => (errors += chunk))
    const [status] = await once(child, 'close')
    if (status !== 0) throw new Error(`${code}${output}${errors}`)
    return output
  }

  /** Runs a block that ends with a server, until it serves; the output before. @throws Error if it ends */
  async serve(code: string): Promise<string> {
    const child = this.#paste(code)
    this.#running = child
    let [output, log] = ['', '']
    child.stdout!.on('data', (chunk) => (output += chunk))
    await new Promise<void>((resolve, reject) => {
      child.stderr!.on('data', (chunk) => {
        log += chunk
        if (log.includes('"address":"')) resolve()
      })
      child.once('close', () => reject(new Error(`${code}${output}${log}`)))
    })
    return output
  }

  async pressControlC(): Promise<void> {
    if (!this.#running) return
    const closed = once(this.#running, 'close')
    process.kill(-this.#running.pid!, 'SIGINT')
    await closed
    this.#running = undefined
  }

  #paste(code: string): ChildProcess {
    const host = `localhost:${this.#env.XQUEUE_PORT}`
    const script = `trap 'pwd >&3' EXIT\n${code.replaceAll('localhost:8080', host)}`
    const options = { cwd: this.#folder, env: this.#env, detached: true }
    const child = endAtExit(spawn('bash', ['-ec', script], { ...options, stdio: ['ignore', 'pipe', 'pipe', 'pipe'] }))
    child.stdio[3]!.on('data', (chunk) => {
      this.#folder = `${chunk}`.trim()
    })
    return child
  }
}

it('the README works when each of its blocks is used in order', { timeout: 180_000 }, async () => {
  const { project, first, second } = await openTerminals()
  const isAlternative = ({ code }: Snippet) => code.includes('--engine')
  const blocks = snippetsOf(README).filter((snippet) => !isAlternative(snippet))
  const outputs: string[] = []
  for (const { language, code } of blocks) {
    if (language !== 'sh') {
      if (!existsSync(join(project, 'client.ts'))) writeSnippets(README, project)
      continue
    }
    const isServer = / serve |npm start/.test(code)
    if (isServer) await first.pressControlC()
    outputs.push(isServer ? await first.serve(code) : await second.run(code))
    if (code.includes('serve --handlers my-handlers.ts\n'))
      expect(await second.run('npx node client.ts')).toBe('90000\n')
  }
  expect(outputs).toHaveLength(8)
  const [, submitted = '', , , limits, schedules, , keys] = outputs
  const types = [...submitted.matchAll(/"id":"([^"]+)","type":"(\w+)"/g)].map(([, , type]) => type)
  expect(types.slice(0, 3)).toEqual(['example', 'email', 'http'])
  expect(submitted).toContain('"next_cursor"')
  expect(limits).toContain('acme')
  expect(schedules).toContain('nightly')

  // The server requires a key now, and takes the one that was created.
  const [admin = ''] = keys!.split('\n')
  await expect(second.run('npx xqueue list')).rejects.toThrow('XQUEUE_KEY')
  await second.run(`XQUEUE_KEY=${admin} npx xqueue list`)
  await first.pressControlC()
  for (const command of snippetsOf(README).find(isAlternative)!.code.trim().split('\n'))
    expect(await second.run(command.replace('xqueue serve', 'xqueue config'))).toContain('redis://localhost')

  symlinkSync(join(root, 'node_modules'), join(dirname(project), 'node_modules'))
  const extended = { extends: join(root, 'tsconfig.json'), include: ['client.ts', 'my-handlers.ts'] }
  writeFileSync(join(project, 'tsconfig.json'), JSON.stringify(extended))
  await second.run(`node ${root}/node_modules/typescript/bin/tsc --noEmit --rootDir / -p .`)
})

it.each(DOCUMENTS)('%s names every command', async (document) => {
  const { first } = await openTerminals()
  const help = await first.run('node src/cli/xqueue.ts --help')
  const names = [...help.matchAll(/^ {2}([a-z]+)\b/gm)].map(([, name]) => name!).filter((name) => name !== 'help')
  expect(names.length).toBeGreaterThan(20)
  const text = readFileSync(join(root, document), 'utf8')
  expect(names.filter((name) => !text.includes(`\`${name}\``))).toEqual([])
})
it('the guides give each of their tasks an idempotency key of its own, because one server may run them all', () => {
  const guides = ['README.md', 'clients/python/README.md', 'clients/go/README.md', 'docs/how-to/add-a-handler.md']
  const keys = guides.flatMap((guide) => readFileSync(join(root, guide), 'utf8').match(/picture-\d+/g))
  expect(keys).toHaveLength(guides.length)
  expect(new Set(keys).size).toBe(guides.length)
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
