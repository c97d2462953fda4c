import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { createRequire } from 'node:module'
import { basename, dirname, join, normalize } from 'node:path'
import { runInNewContext } from 'node:vm'
import { checkPackage, createPackageFromTarballData } from '@arethetypeswrong/core'
import { build } from 'esbuild'
import { publint } from 'publint'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { endAtExit } from '../fixtures/processes.ts'
import { root } from '../fixtures/root.ts'
import { env, type Packed, packAndInstall, run } from './packed.ts'

let packed: Packed
let project: string
let xqueue: string

/** Builds, packs and installs: npm alone needs a minute on a machine that does other work. */
const BUILD_MS = 300_000

beforeAll(() => {
  packed = packAndInstall()
  project = packed.project
  xqueue = join(project, 'node_modules/.bin/xqueue')
}, BUILD_MS)

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
  const { paths } = packed
  const allowed = [
    /^(package\.json|README(\.zh-CN)?\.md|LICENSE|llms\.txt|(ARCHITECTURE|CHANGELOG|SECURITY)\.md)$/,
    /^docs\/.*\.md$/,
    /^dist\/(cjs\/)?(src|handlers)\/.*(\.js|\.d\.ts)$/,
    /^dist\/cjs\/package\.json$/,
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
  expect(packed.size).toBeLessThan(1_200_000)
  expect(packed.unpackedSize).toBeLessThan(3_800_000) // a quarter of it is the documentation
})

it('publishes its documentation, and llms.txt leads to every page of it', () => {
  const linked = (file: string) => [...readFileSync(join(packed.unpacked, file), 'utf8').matchAll(/\]\(([^)#\s]+)/g)]
  const pages = packed.paths.filter((path) => /^docs\/(?!zh\/).*\.md$/.test(path))
  const listed = linked('llms.txt').map(([, path]) => path!)
  expect(listed.filter((path) => !packed.paths.includes(path))).toEqual([])
  expect(pages.filter((page) => !listed.includes(page))).toEqual(['docs/how-to/README.md'])
  // Links between documents stay within the package; the others name files of the repository.
  const broken = ['README.md', 'README.zh-CN.md', ...pages].flatMap((page) =>
    linked(page)
      .map(([, target]) => normalize(join(dirname(page), decodeURIComponent(target!))))
      .filter((target) => /^docs\/.*\.md$/.test(target) && !packed.paths.includes(target)),
  )
  expect(broken).toEqual([])
})

it('names only files that it publishes', () => {
  const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  const { paths } = packed
  const leaves = (value: unknown): unknown[] =>
    typeof value === 'object' && value !== null ? Object.values(value).flatMap(leaves) : [value]
  const { bin, main, types, exports, typesVersions } = manifest
  const targets = leaves([bin, main, types, exports, typesVersions]).map((target) => String(target).replace('./', ''))
  expect(targets.length).toBeGreaterThan(20)
  expect(targets.filter((target) => !paths.includes(target))).toEqual([])
  expect(manifest).toMatchObject({ type: 'module', license: 'MIT', engines: { node: '>=24.9' } })
  expect(manifest.private).toBeUndefined()
  // Scripts that npm runs when it installs a package.
  expect(Object.keys(manifest.scripts).filter((name) => /^(pre|post)?install$|^prepare$/.test(name))).toEqual([])
  expect(readFileSync(join(root, manifest.bin.xqueue), 'utf8')).toMatch(/^#!\/usr\/bin\/env node\n/)
})

it('installs without compilers, and in a bounded size', () => {
  const all = readdirSync(join(project, 'node_modules'), { recursive: true, encoding: 'utf8' })
  const files = all.filter((file) => !/^(\.bin\/)?node($|\/)/.test(file)) // The project's Node is not of the package.
  expect(files.filter((file) => /(^|\/)binding\.gyp$/.test(file))).toEqual([])
  const bytes = files.map((file) => statSync(join(project, 'node_modules', file)))
  const size = bytes.filter((stat) => stat.isFile()).reduce((sum, stat) => sum + stat.size, 0)
  expect(size).toBeLessThan(72e6)
})

it('writes a project that runs a task, and whose code compiles', async () => {
  expect(readdirSync(project).sort()).toEqual([
    '.dockerignore',
    '.gitignore',
    'Dockerfile',
    'README.md',
    'handlers.test.ts',
    'handlers.ts',
    'node_modules',
    'package-lock.json',
    'package.json',
    'submit.ts',
    'tsconfig.json',
    basename(packed.tarball),
  ])
  run(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', project], project)

  const { scripts } = JSON.parse(readFileSync(join(project, 'package.json'), 'utf8'))
  expect(scripts).toEqual({
    start: 'exec xqueue serve --handlers handlers.ts',
    submit: 'node submit.ts',
    test: 'node --test "**/*.test.ts"',
  })
  expect(run('npm', ['test'], project)).toMatch(/^ℹ pass 1$/m)
  await start(...scripts.start.split(' ').slice(2))
  expect(ask('npm', 'run', '--silent', 'submit', 'Bo')).toBe('Hello, Bo!\n')
  expect(JSON.parse(ask(xqueue, 'list', '--json'))).toMatchObject([{ type: 'greet', status: 'success' }])
  expect(ask(xqueue, 'health')).toMatch(/^status +healthy$/m)
  expect(await stop()).toBe(0)
})

it('writes a project with a Node of its own, which npm runs on any machine', () => {
  const own = realpathSync(join(project, 'node_modules/node'))
  expect(run('npx', ['node', '-p', 'process.execPath'], project)).toContain(own)
})

it('writes a project in JavaScript, which its comments check', async () => {
  const folder = join(project, 'in-javascript')
  run(xqueue, ['init', '--javascript', folder], project)
  const { dependencies, scripts } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
  expect(dependencies).toEqual({ xqueue: `file:${basename(packed.tarball)}` })
  expect(readdirSync(folder).filter((file) => /\.ts$/.test(file))).toEqual([])
  expect(readFileSync(join(folder, 'Dockerfile'), 'utf8')).toContain('XQUEUE_HANDLERS=/app/handlers.js')
  // The packages of the project around it are its own.
  run(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', folder], folder)
  expect(run('npm', ['test'], folder)).toMatch(/^ℹ pass 1$/m)
  await start(...scripts.start.replace('handlers.js', 'in-javascript/handlers.js').split(' ').slice(2))
  expect(ask(process.execPath, 'in-javascript/submit.js', 'Bo')).toBe('Hello, Bo!\n')
  expect(await stop()).toBe(0)
  rmSync(folder, { recursive: true })
})

it("prints commands that reach the new project, whatever a shell would do with its folder's name", () => {
  const name = 'it\'s $HOME "new"'
  const commands = run(xqueue, ['init', '--javascript', name], project)
  const [enter] = commands.match(/^ {2}cd .*$/m)!
  expect(run('sh', ['-c', `${enter} && pwd -P`], project)).toBe(`${realpathSync(join(project, name))}\n`)
  rmSync(join(project, name), { recursive: true })
})

it(
  'writes a project from a clone, with the package of the clone',
  () => {
    const folder = join(project, 'from-a-clone')
    run(process.execPath, [join(root, 'src/cli/xqueue.ts'), 'init', folder], project)
    const { dependencies } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
    expect(dependencies).toEqual({ xqueue: `file:${basename(packed.tarball)}` })
    expect(existsSync(join(folder, basename(packed.tarball)))).toBe(true)
    rmSync(folder, { recursive: true })
  },
  BUILD_MS,
)

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

/** The tools that judge how other programs see a package. */
it('is clean for publint and for Are the Types Wrong', async () => {
  const data = new Uint8Array(readFileSync(packed.tarball))
  const checked = await checkPackage(createPackageFromTarballData(data))
  if (!checked.types) throw new Error('the package has no types')
  expect(checked.problems).toEqual([])
  expect(Object.keys(checked.entrypoints).sort()).toEqual([
    '.',
    './client',
    './handlers',
    './package.json',
    './testing',
  ])
  const { messages } = await publint({ pack: { tarball: data.buffer }, level: 'suggestion', strict: true })
  expect(messages).toEqual([])
})

/** The newest TypeScript, and the one that comes with Are the Types Wrong: the newest has no `node10` any more. */
const newest = join(root, 'node_modules/typescript/bin/tsc')
const older = createRequire(createRequire(import.meta.url).resolve('@arethetypeswrong/core')).resolve(
  'typescript/bin/tsc',
)

/** An application of its own folder, which finds the packages of the project. */
function application(type: 'module' | 'commonjs'): string {
  const folder = join(packed.project, '..', `app-${type}`)
  if (existsSync(folder)) return folder
  mkdirSync(folder)
  cpSync(join(root, 'test/deploy/typed-app'), folder, { recursive: true })
  symlinkSync(join(project, 'node_modules'), join(folder, 'node_modules'))
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ private: true, type }))
  return folder
}

/** Checks the declarations of packages, and not those that come with TypeScript. */
const STRICT = {
  ...{ noEmit: true, strict: true, skipLibCheck: false, skipDefaultLibCheck: true, exactOptionalPropertyTypes: true },
  ...{ target: 'es2022', lib: ['es2022', 'dom'], esModuleInterop: true },
}
const RESOLUTIONS = { node10: 'commonjs', node16: 'node16', nodenext: 'nodenext', bundler: 'esnext' }

/** Compiles the files under each module resolution, in one process, which reads the files that they share once. */
function compile(
  tsc: string,
  folder: string,
  resolutions: readonly (keyof typeof RESOLUTIONS)[],
  { files, types }: { files: string[]; types: string[] },
): string {
  const configs = resolutions.map((moduleResolution) => {
    const name = `tsconfig.${moduleResolution}.json`
    const compilerOptions = { ...STRICT, moduleResolution, module: RESOLUTIONS[moduleResolution], types }
    writeFileSync(join(folder, name), JSON.stringify({ compilerOptions, files }))
    return name
  })
  return run(process.execPath, [tsc, '--build', '--force', ...configs], folder)
}

it.each([
  ['module', 'the older TypeScript', older, ['node16', 'nodenext', 'bundler']],
  ['module', 'the newest TypeScript', newest, ['node16', 'nodenext', 'bundler']],
  ['commonjs', 'the older TypeScript', older, ['node10', 'node16', 'nodenext']],
  ['commonjs', 'the newest TypeScript', newest, ['node16', 'nodenext']],
] as const)(
  'has types in a package of type %s, for %s, under each module resolution',
  (type, _name, tsc, resolutions) => {
    const files = ['handlers.ts', 'submit.ts', 'handlers-test.ts', 'server.ts']
    expect(compile(tsc, application(type), resolutions, { files, types: ['node'] })).toBe('')
  },
  BUILD_MS,
)

it('has types for the client in browsers, without those of Node.js', () => {
  for (const tsc of [older, newest]) {
    expect(compile(tsc, application('module'), ['bundler'], { files: ['browser.ts'], types: [] })).toBe('')
  }
})

it('exports the same to `require` and `import`', () => {
  const entries = ['xqueue', 'xqueue/client', 'xqueue/testing', 'xqueue/handlers']
  const names = 'Object.keys(all).filter((name) => !/^(__esModule|module.exports)$/.test(name)).sort().join()'
  const script = `${JSON.stringify(entries)}.map(async (entry) => {
    const names = (all) => ${names}
    const [required, imported] = [names(require(entry)), names(await import(entry))]
    console.log(entry, required === imported && required !== '' ? 'same' : [required, imported])
  })`
  const lines = run(process.execPath, ['-e', script], application('commonjs')).trim().split('\n')
  expect(lines.sort()).toEqual(entries.map((entry) => `${entry} same`).sort())
})

const CLIENT_PROGRAM = `
const client = createClient(process.env.XQUEUE_SERVER)
client.submit('greet', { name: 'Ann' })
  .then((task) => client.result(task))
  .then(({ text }) => console.log(process.versions.node.split('.')[0], text))`

it('has a client for Node.js 20', async () => {
  await start('serve', '--handlers', 'handlers.ts')
  const found = `/usr/bin:/usr/local/bin:${process.env.PATH}`
    .split(':')
    .map((folder) => join(folder, 'node'))
    .find((file) => /^v20\./.test(spawnSync(file, ['--version'], { encoding: 'utf8' }).stdout ?? ''))
  if (!found) console.warn('NOT TESTED: the client under Node.js 20, because there is no Node.js 20 on this machine')
  const node = found ?? process.execPath
  const major = found ? 20 : 24
  const required = `const { createClient } = require('xqueue/client')${CLIENT_PROGRAM}`
  expect(ask(node, '-e', required)).toBe(`${major} Hello, Ann!\n`)
  const imported = `import { createClient } from 'xqueue/client'${CLIENT_PROGRAM}`
  expect(ask(node, '--input-type=module', '-e', imported)).toBe(`${major} Hello, Ann!\n`)
  expect(await stop()).toBe(0)
})

it('has a client for browsers, which needs nothing of Node.js', async () => {
  const source = `import { createClient } from 'xqueue/client'
globalThis.greet = async (server) => {
  const client = createClient(server)
  return (await client.result(await client.submit('greet', { name: 'Ann' }))).text
}`
  const { outputFiles, metafile } = await build({
    stdin: { contents: source, resolveDir: project },
    bundle: true,
    platform: 'browser',
    format: 'iife',
    target: ['chrome116', 'safari17'],
    minify: true,
    write: false,
    metafile: true,
  })
  // No dependency, and nothing of the server.
  const files = Object.keys(metafile.inputs).filter((file) => file !== '<stdin>')
  expect(
    files.filter((file) => !/xqueue\/dist\/src\/(client\.js$|client\/|task\/|trace\/inject\.js$)/.test(file)),
  ).toEqual([])
  const { text } = outputFiles[0]!
  expect(text.length).toBeLessThan(40_000)

  await start('serve', '--handlers', 'handlers.ts')
  const web = { AbortController, AbortSignal, TextDecoder, URLSearchParams, crypto, fetch, performance }
  const page: Record<string, (server: string) => Promise<string>> = { ...web, setTimeout, clearTimeout } as never
  runInNewContext(text, page)
  expect(await page.greet!(address)).toBe('Hello, Ann!')
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
  expect(() => attempt(['init', packed.unpacked])).toThrow(/is not empty: choose a new folder/)
  expect(readdirSync(packed.unpacked)).not.toContain('handlers.ts')
})

it.each(['20.1.0', '24.8.0'])('reports that Node %s is not supported', (version) => {
  const old = `Object.defineProperty(process.versions, 'node', { value: '${version}' })`
  const NODE_OPTIONS = `--import=data:text/javascript,${encodeURIComponent(old)}`
  expect(() => attempt(['--version'], { NODE_OPTIONS })).toThrow(
    /needs Node 24.9 or newer; .* add it to the project with `npm install --save-dev node@24`/,
  )
})
