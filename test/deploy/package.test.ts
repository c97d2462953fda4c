import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { temporaryFolder } from '../fixtures/folder.ts'
import { endAtExit } from '../fixtures/processes.ts'
import { root } from '../fixtures/root.ts'

const folder = temporaryFolder()
const unpacked = join(folder, 'package')
const project = join(folder, 'project')
/** Node 24 goes first, also where the machine's own is older. */
const env = { ...process.env, PATH: `${dirname(process.execPath)}:${process.env.PATH}`, NODE_ENV: '' }

interface Packed {
  filename: string
  size: number
  unpackedSize: number
  files: { path: string }[]
}
let packed: Packed
let tarball: string

const run = (command: string, args: string[], cwd: string) =>
  execFileSync(command, args, { cwd, env, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] })

/** The steps of a new user: install the package from its tarball, run `xqueue init`, and follow its instructions. */
beforeAll(() => {
  run(process.execPath, [join(root, 'scripts/build.ts')], root)
  const output = run('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', folder], root)
  const answer = JSON.parse(output) as Packed[] | Record<string, Packed>
  packed = Object.values(answer)[0]!
  tarball = join(folder, packed.filename)
  // The program of the package itself, with the repository's dependencies: one installation is slow enough.
  run('tar', ['-xzf', tarball], folder)
  symlinkSync(join(root, 'node_modules'), join(unpacked, 'node_modules'))
  run(process.execPath, [join(unpacked, 'dist/src/cli/xqueue.js'), 'init', project], folder)
  run('npm', ['install', '--prefer-offline', '--no-audit', '--no-fund', tarball], project)
})

const xqueue = join(project, 'node_modules/.bin/xqueue')
let server: ChildProcess | undefined
let address: string

/** Starts the installed program in the project, and waits until it says where it serves. */
async function start(...args: string[]): Promise<void> {
  const stdio = ['ignore', 'ignore', 'pipe'] as const
  const started = spawn(xqueue, [...args, '--port', '0', '--mqtt', 'off'], { cwd: project, env, stdio: [...stdio] })
  server = endAtExit(started)
  address = await new Promise((resolve, reject) => {
    let log = ''
    started.stderr!.on('data', (chunk) => {
      log += chunk
      const found = /"address":"([^"]+)"/.exec(log)?.[1]
      if (found) resolve(found)
    })
    started.once('exit', () => reject(new Error(log)))
  })
}

async function stop(): Promise<number> {
  server!.kill('SIGTERM')
  return (await once(server!, 'exit'))[0]
}

/** The output of a command that calls the started server. */
function ask(command: string, ...args: string[]): string {
  return execFileSync(command, args, { cwd: project, env: { ...env, XQUEUE_SERVER: address }, encoding: 'utf8' })
}

afterAll(() => {
  server?.kill('SIGKILL')
})

it('publishes the program and its types, and nothing else', () => {
  const paths = packed.files.map(({ path }) => path)
  const allowed = [
    /^(package\.json|README(\.zh-CN)?\.md|LICENSE|CHANGELOG\.md)$/,
    /^dist\/(src|handlers)\/.*(\.js|\.d\.ts)$/,
    /^dist\/src\/store\/.*\.(sql|lua)$/,
    /^dist\/dashboard\/dist\/.*\.(html|js|css|svg)(\.br|\.gz)?$/,
    /^dist\/starter\/[\w.]+$/,
  ]
  expect(paths.filter((path) => !allowed.some((pattern) => pattern.test(path)))).toEqual([])
  expect(paths).toEqual(
    expect.arrayContaining([
      'LICENSE',
      'README.md',
      'dist/src/cli/xqueue.js',
      'dist/src/index.js',
      'dist/src/index.d.ts',
      'dist/handlers/index.js',
      'dist/dashboard/dist/index.html',
      'dist/starter/handlers.ts',
      'dist/starter/gitignore',
    ]),
  )
  expect(packed.size).toBeLessThan(750_000)
  expect(packed.unpackedSize).toBeLessThan(2_200_000)
})

it('names only files that it publishes', () => {
  const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  const paths = packed.files.map(({ path }) => path)
  const targets = [manifest.bin.xqueue, ...Object.values(manifest.exports).flatMap((at) => Object.values(Object(at)))]
    .filter((target) => typeof target === 'string' && target.length > 1)
    .map((target) => target.replace(/^\.\//, ''))
  expect(targets.length).toBeGreaterThan(4)
  expect(targets.filter((target) => !paths.includes(target))).toEqual([])
  expect(manifest).toMatchObject({ type: 'module', license: 'MIT', engines: { node: '>=24.9' } })
  expect(manifest.private).toBeUndefined()
  expect(readFileSync(join(root, manifest.bin.xqueue), 'utf8')).toMatch(/^#!\/usr\/bin\/env node\n/)
})

it('installs without compilers, and in a bounded size', () => {
  const files = readdirSync(join(project, 'node_modules'), { recursive: true, encoding: 'utf8' })
  expect(files.filter((file) => /(^|\/)binding\.gyp$/.test(file))).toEqual([])
  const bytes = files.map((file) => statSync(join(project, 'node_modules', file)))
  const size = bytes.filter((stat) => stat.isFile()).reduce((sum, stat) => sum + stat.size, 0)
  expect(size).toBeLessThan(70e6)
})

it('writes a project that runs a task, and whose code compiles', async () => {
  expect(readdirSync(project).sort()).toEqual([
    '.gitignore',
    'README.md',
    'handlers.ts',
    'node_modules',
    'package-lock.json',
    'package.json',
    'submit.ts',
    'tsconfig.json',
  ])
  run(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', project], project)

  const { scripts } = JSON.parse(readFileSync(join(project, 'package.json'), 'utf8'))
  expect(scripts).toEqual({ start: 'exec xqueue serve --handlers handlers.ts', submit: 'node submit.ts' })
  await start(...scripts.start.split(' ').slice(2))
  expect(ask('npm', 'run', '--silent', 'submit', 'Bo')).toBe('Hello, Bo!\n')
  expect(JSON.parse(ask(xqueue, 'list', '--json'))).toMatchObject([{ type: 'greet', status: 'success' }])
  expect(ask(xqueue, 'health')).toMatch(/^status +healthy$/m)
  expect(await stop()).toBe(0)
})

it('includes its SQL, its page, its threads and the included handlers', async () => {
  writeFileSync(
    join(project, 'more.ts'),
    `import { defineHandlers, type TaskWith } from 'xqueue'
import standard from 'xqueue/handlers'
export default defineHandlers({
  example: standard.example,
  double: { isolate: true, run: async ({ payload }: TaskWith<number>) => payload * 2 },
})`,
  )
  await start('serve', '--handlers', 'more.ts')
  const doubled = ask(xqueue, 'submit', 'double', '21', '--wait', '--json')
  expect(JSON.parse(doubled)).toMatchObject({ status: 'success', result: 42 })
  expect(JSON.parse(ask(xqueue, 'submit', 'example', '{"duration": 0}', '--wait', '--json'))).toMatchObject({
    status: 'success',
  })
  expect(await (await fetch(address)).text()).toContain('<title>')
  expect(await stop()).toBe(0)
})

it('publishes the exports that tests of handlers need', () => {
  const script = `import { createTestQueue } from 'xqueue/testing'
const queue = await createTestQueue({ double: { run: ({ payload }) => payload * 2 } })
const task = await queue.submit('double', 21, { delay: '1h' })
await queue.runUntilIdle()
console.log(await queue.result(task))
await queue.close()`
  expect(run(process.execPath, ['--input-type=module', '-e', script], project)).toBe('42\n')
})

/** The output of a command that must fail. */
const attempt = (args: string[], more: NodeJS.ProcessEnv = {}) =>
  execFileSync(xqueue, args, { env: { ...env, ...more }, encoding: 'utf8', stdio: 'pipe' })

it('overwrites no file', () => {
  expect(() => attempt(['init', unpacked])).toThrow(/is not empty: choose a new folder/)
  expect(readdirSync(unpacked)).not.toContain('handlers.ts')
})

it.each(['20.1.0', '24.8.0'])('reports that Node %s is not supported', (version) => {
  const old = `Object.defineProperty(process.versions, 'node', { value: '${version}' })`
  const NODE_OPTIONS = `--import=data:text/javascript,${encodeURIComponent(old)}`
  expect(() => attempt(['--version'], { NODE_OPTIONS })).toThrow(/needs Node 24.9 or newer/)
})
