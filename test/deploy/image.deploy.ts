import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  appendFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join, matchesGlob, resolve } from 'node:path'
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import { freePort } from '../fixtures/ports.ts'
import { endAtExit, removeAtExit } from '../fixtures/processes.ts'
import { readDockerfile, type Stage } from './dockerfile.ts'
import { baseRoot } from './tools.ts'

const repository = join(import.meta.dirname, '../..')
const folder = removeAtExit(mkdtempSync(join(tmpdir(), 'xqueue-image-')))
const context = join(folder, 'context')
const CERTIFICATES = '/etc/ssl/certs/ca-certificates.crt'

/** The settings of the last stage for its process. */
interface Image {
  root: string
  env: Record<string, string>
  directory: string
  user: string
  entrypoint: string[]
  command: string[]
  healthcheck: string[]
}
let image: Image

/**
 * Builds the image of `docker build` without a container engine: each stage is its own Debian, and each RUN is
 * run in it by chroot. Then starts the process as a container engine does: as the user, on a read-only root.
 */
beforeAll(() => {
  copyContext()
  const built = new Map<string, string>()
  for (const [index, stage] of readDockerfile(join(repository, 'deploy/Dockerfile')).entries()) {
    image = build(stage, join(folder, String(index)), built)
    built.set(stage.name ?? String(index), image.root)
  }
})
afterAll(() => rmSync(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 }))

/** The files that the engine is sent: the last pattern of .dockerignore that names one decides. */
function copyContext(): void {
  const patterns = readFileSync(join(repository, 'deploy/Dockerfile.dockerignore'), 'utf8')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => ({ kept: line.startsWith('!'), glob: line.replace(/^!/, '') }))
  const isKept = (path: string) =>
    patterns.findLast(({ glob }) => matchesGlob(path, glob) || matchesGlob(path, `${glob}/**`))?.kept ?? true
  const listed = execFileSync('git', ['ls-files', '-co', '--exclude-standard'], { cwd: repository, encoding: 'utf8' })
  for (const path of listed.trim().split('\n').filter(isKept)) {
    if (existsSync(join(repository, path))) cpSync(join(repository, path), join(context, path))
  }
}

function build({ steps }: Stage, root: string, built: ReadonlyMap<string, string>): Image {
  execFileSync('cp', ['-a', '--reflink=auto', baseRoot(), root])
  useThisMachinesNetwork(root)
  const made: Image = { root, env: {}, directory: '/', user: '0:0', entrypoint: [], command: [], healthcheck: [] }
  for (const step of steps) {
    switch (step.kind) {
      case 'WORKDIR':
        made.directory = resolve(made.directory, step.value)
        mkdirSync(join(root, made.directory), { recursive: true })
        break
      case 'COPY':
        for (const source of step.sources) {
          const from = join(step.from ? built.get(step.from)! : context, source)
          const to = join(root, resolve(made.directory, step.target))
          execFileSync('cp', ['-a', '--no-preserve=ownership', from, to])
        }
        break
      case 'RUN':
        inside(made, step.command)
        break
      case 'ENV':
        Object.assign(made.env, step.values)
        break
      case 'USER':
        made.user = step.value
        break
      case 'ENTRYPOINT':
        made.entrypoint = step.args
        break
      case 'CMD':
        made.command = step.args
        break
      case 'HEALTHCHECK':
        made.healthcheck = step.args
        break
      case 'VOLUME':
      case 'EXPOSE':
        break // Says something to the engine, changes nothing in the image.
    }
  }
  return made
}

/** Names and certificates of this machine, as an engine lends them to a container. */
function useThisMachinesNetwork(root: string): void {
  for (const file of ['/etc/resolv.conf', '/etc/hosts', CERTIFICATES]) {
    if (existsSync(file)) cpSync(file, join(root, file), { dereference: true })
  }
  appendFileSync(join(root, 'root/.npmrc'), `cafile=${CERTIFICATES}\n`)
}

const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
const MOUNT_PROC = 'mount -t proc proc $R/proc'
/** As `docker run --read-only --tmpfs /tmp -v …:/data` does. */
const MOUNT_READ_ONLY = `mount --bind $R $R; mount --bind $R/data $R/data; mount -t tmpfs tmpfs $R/tmp; ${MOUNT_PROC}
  mount -o remount,bind,ro $R; cd $R`

/** The command line that runs a command in it, as its user, with only its settings, and mounts that end with it. */
function enter({ env, directory, user }: Image, mounts: string, command: string[], more: object): string[] {
  const variables = Object.entries({ PATH, ...env, ...more }).map(([name, value]) => `${name}=${value}`)
  const run = ['env', '-i', `--chdir=${directory}`, ...variables, ...command]
  return ['--mount', 'sh', '-ec', `${mounts}; exec chroot --userspec=${user} $R "$@"`, 'sh', ...run]
}

const within = ({ root }: Image) => ({ ...process.env, R: root })

/** Runs a line of the shell in it. */
function inside(image: Image, command: string, more: Record<string, string> = {}): string {
  const args = enter(image, MOUNT_PROC, ['sh', '-ec', command], more)
  return execFileSync('unshare', args, { env: within(image), encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] })
}

/** Starts the process of the image. Each program before it execs the next, so the process id stays the same. */
function start(image: Image, more: Record<string, string>): ChildProcess {
  const args = enter(image, MOUNT_READ_ONLY, [...image.entrypoint, ...image.command], more)
  return endAtExit(spawn('unshare', args, { env: within(image), stdio: ['ignore', 'ignore', 'pipe'] }))
}

it('contains no build tools, and has a bounded size', () => {
  expect(readdirSync(join(image.root, 'app')).sort()).toEqual(['LICENSE', 'dist', 'node_modules', 'package.json'])
  const files = readdirSync(join(image.root, 'app'), { recursive: true, encoding: 'utf8' })
  expect(files.filter((file) => /node_modules\/(vite|typescript|vitest)\//.test(file))).toEqual([])
  const sizes = files.map((file) => statSync(join(image.root, 'app', file), { throwIfNoEntry: false }))
  const bytes = sizes.filter((stat) => stat?.isFile()).reduce((sum, stat) => sum + stat!.size, 0)
  console.log(`the image adds ${(bytes / 1e6).toFixed(1)} MB to its base`)
  expect(bytes).toBeLessThan(70e6)
})

it('serves as an unprivileged user, runs a task, writes to /data only, and stops on SIGTERM', async () => {
  const port = await freePort()
  const settings = { XQUEUE_HOST: '127.0.0.1', XQUEUE_PORT: String(port), XQUEUE_MQTT_PORT: '0' }
  const server = start(image, settings)
  let log = ''
  server.stderr!.on('data', (chunk) => {
    log += chunk
  })
  const api = `http://127.0.0.1:${port}/api/v1`
  await vi.waitFor(
    async () => {
      if (server.exitCode !== null) throw new Error(`it ended with ${server.exitCode}: ${log}`)
      expect(await (await fetch(`${api}/health`)).json()).toMatchObject({ status: 'healthy' })
    },
    { timeout: 60_000 },
  )
  const status = readFileSync(`/proc/${server.pid}/status`, 'utf8')
  expect(status).toMatch(/^Uid:\s+1000\s+1000\s+1000\s+1000$/m)
  expect(status).toMatch(/^Gid:\s+1000\s+1000\s+1000\s+1000$/m)

  const body = JSON.stringify({ type: 'email', payload: { to: 'ann@example.com', subject: 'Hi', text: 'It works.' } })
  const headers = { 'Content-Type': 'application/json' }
  const { id } = (await (await fetch(`${api}/tasks`, { method: 'POST', headers, body })).json()) as { id: string }
  await vi.waitFor(async () => {
    expect(await (await fetch(`${api}/tasks/${id}`)).json()).toMatchObject({ status: 'success' })
  })
  expect(readdirSync(join(image.root, 'data/outbox'))).toHaveLength(1)
  const owner = statSync(join(image.root, 'data/xqueue.db'))
  expect([owner.uid, owner.gid]).toEqual([1000, 1000])
  expect(await (await fetch(`http://127.0.0.1:${port}/`)).text()).toContain('<title>')

  const asked = { ...settings, XQUEUE_SERVER: `http://127.0.0.1:${port}` }
  const [program, ...args] = image.healthcheck
  expect(inside(image, [program, ...args].join(' '), asked)).toMatch(/^status +healthy$/m)
  server.kill('SIGTERM')
  expect(await once(server, 'exit')).toEqual([0, null])
  expect(() => inside(image, [program, ...args, '2>/dev/null'].join(' '), asked)).toThrow()
})

it('runs custom handlers that are copied into it', async () => {
  const handlers = join(image.root, 'app/handlers')
  mkdirSync(handlers)
  cpSync(join(repository, 'starter/handlers.ts'), join(handlers, 'handlers.ts'))
  const settings = { XQUEUE_HOST: '127.0.0.1', XQUEUE_HANDLERS: '/app/handlers/handlers.ts', XQUEUE_MQTT_PORT: '0' }
  expect(inside(image, 'xqueue doctor --json || true', { ...settings, XQUEUE_PORT: '0' })).toContain('"detail":"greet"')
})
