import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { appendFileSync, cpSync, existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { freePort } from '../fixtures/ports.ts'

/**
 * `npm run test:fresh [-- --release bookworm|trixie] [-- --only start|test]`: both commands of the README on a machine
 * that has nothing but a minimal Debian with that release's own Node and npm. Needs root on Debian (debootstrap,
 * chroot). Prints one line per step and ends with 1 if one fails; what the tests print goes to a file that it names.
 */
const repository = join(import.meta.dirname, '../..')
const cache = join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'xqueue-tests')
const CERTIFICATES = '/etc/ssl/certs/ca-certificates.crt'
/** Authorities that the administrator of this machine has added, as for a proxy. Java reads them from its own store. */
const LOCAL_AUTHORITIES = '/usr/local/share/ca-certificates'
/** A root's home is closed to other users: what the tests start as another user must not need the checkout. */
const CHECKOUT = '/root/xqueue'
const RELEASES = ['bookworm', 'trixie']

const { values } = parseArgs({ options: { release: { type: 'string' }, only: { type: 'string' } } })
if (process.getuid?.() !== 0) throw new Error('run it as root: it needs debootstrap, mount and chroot')
for (const release of values.release ? [values.release] : RELEASES) await prove(release)

async function prove(release: string): Promise<void> {
  const root = mkdtempSync(join(tmpdir(), `xqueue-fresh-${release}-`))
  try {
    execFileSync('cp', ['-a', '--reflink=auto', '--no-target-directory', minimalDebian(release), root])
    execFileSync('git', ['clone', '--quiet', '--no-hardlinks', repository, join(root, CHECKOUT)], { stdio: 'inherit' })
    if (values.only !== 'test') await proveStart(root, release)
    if (values.only !== 'start') await proveTest(root, release)
  } finally {
    rmSync(root, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 })
  }
}

/** A release as debootstrap makes it, with its own Node and npm, kept for the next run. */
function minimalDebian(release: string): string {
  const folder = join(cache, `debian-${release}-npm`)
  if (existsSync(folder)) return folder
  if (!existsSync('/usr/sbin/debootstrap')) {
    execFileSync('apt-get', ['update'], { stdio: 'ignore' })
    execFileSync('apt-get', ['install', '-y', '--no-install-recommends', 'debootstrap'], { stdio: 'ignore' })
  }
  const making = `${folder}-making`
  rmSync(making, { recursive: true, force: true })
  mkdirSync(cache, { recursive: true })
  execFileSync('debootstrap', ['--variant=minbase', '--include=ca-certificates', release, making], { stdio: 'ignore' })
  // The names, certificates and registries of this machine, as a container would be lent them.
  for (const file of ['/etc/resolv.conf', '/etc/hosts', CERTIFICATES]) cpSync(file, join(making, file))
  appendFileSync(join(making, 'root/.npmrc'), `cafile=${CERTIFICATES}\n`)
  if (existsSync(LOCAL_AUTHORITIES)) {
    cpSync(LOCAL_AUTHORITIES, join(making, LOCAL_AUTHORITIES), { recursive: true })
    run(making, 'update-ca-certificates')
  }
  run(making, 'apt-get update -qq && apt-get install -y -qq --no-install-recommends nodejs npm git')
  renameSync(making, folder)
  return folder
}

/** The command that runs a line of the shell in the root $R, with mounts and processes that end with it. */
function enter(line: string): [string, string[]] {
  const mounts = [
    'mount -t proc proc "$R/proc"',
    'mkdir -p "$R/dev/shm" "$R/dev/pts"',
    'mount -t tmpfs tmpfs "$R/dev/shm"',
    // Terminals of its own.
    'mount -t devpts -o newinstance,ptmxmode=0666 devpts "$R/dev/pts"',
    'ln -sf pts/ptmx "$R/dev/ptmx"',
  ].join('; ')
  const certificates = ['NODE_EXTRA_CA_CERTS', 'SSL_CERT_FILE', 'PIP_CERT', 'REQUESTS_CA_BUNDLE']
  const variables = [
    'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    'HOME=/root',
    'LANG=C.UTF-8',
    'DEBIAN_FRONTEND=noninteractive',
    ...certificates.map((name) => `${name}=${CERTIFICATES}`),
  ]
  const script = `${mounts}; exec chroot "$R" env -i "$@"`
  const inside = [...variables, 'sh', '-ec', line]
  return ['unshare', ['--mount', '--pid', '--kill-child', '--fork', 'sh', '-ec', script, 'sh', ...inside]]
}

function environment(root: string): NodeJS.ProcessEnv {
  return { ...process.env, R: root }
}

function run(root: string, line: string): string {
  const [program, args] = enter(line)
  return execFileSync(program, args, { env: environment(root), encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
}

async function proveStart(root: string, release: string): Promise<void> {
  const versions = run(root, 'node --version; npm --version').trim().replace('\n', ', npm ')
  report(release, `Node ${versions}`, true)
  await step(root, release, 'npm ci')
  const [port, mqttPort] = [await freePort(), await freePort()]
  const settings = `XQUEUE_PORT=${port} XQUEUE_MQTT_PORT=${mqttPort}`
  const [program, args] = enter(`cd ${CHECKOUT}; ${settings} exec npm start`)
  const server = spawn(program, args, { env: environment(root), stdio: 'ignore' })
  try {
    const url = `http://127.0.0.1:${port}`
    await until(server, async () => (await fetch(`${url}/api/v1/health`)).ok)
    report(release, 'npm start: healthy', true)
    const page = await (await fetch(url)).text()
    report(release, 'npm start: the dashboard is there', page.includes('<script'))
    const body = JSON.stringify({ type: 'example', payload: { duration: 0.1 } })
    const headers = { 'Content-Type': 'application/json' }
    const task = (await (await fetch(`${url}/api/v1/tasks`, { method: 'POST', headers, body })).json()) as {
      id: string
    }
    await until(server, async () => {
      const { status } = (await (await fetch(`${url}/api/v1/tasks/${task.id}`)).json()) as { status: string }
      return status === 'success'
    })
    report(release, 'npm start: a task ran', true)
  } finally {
    server.kill('SIGKILL')
    if (server.exitCode === null && server.signalCode === null) await once(server, 'exit')
  }
}

async function proveTest(root: string, release: string): Promise<void> {
  if (values.only === 'test') await step(root, release, 'npm ci')
  await step(root, release, 'CI=true npm test')
}

/** Runs a command of the README in the checkout. @throws Error if it fails */
async function step(root: string, release: string, command: string): Promise<void> {
  const log = join(tmpdir(), `xqueue-fresh-${release}-${command.split(' ').at(-1)}.log`)
  const [program, args] = enter(`cd ${CHECKOUT}; ${command}`)
  const started = Date.now()
  const child = spawn(program, args, { env: environment(root), stdio: ['ignore', 'pipe', 'pipe'] })
  writeFileSync(log, '')
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => appendFileSync(log, chunk))
  const [code] = await once(child, 'close')
  report(release, `${command}: ${Math.round((Date.now() - started) / 1000)} s, ${log}`, code === 0)
}

function report(release: string, what: string, isGood: boolean): void {
  console.log(`${isGood ? 'ok    ' : 'FAILED'} ${release}: ${what}`)
  if (!isGood) process.exitCode = 1
}

async function until(server: ChildProcess, holds: () => Promise<boolean>): Promise<void> {
  const end = Date.now() + 120_000
  while (!(await holds().catch(() => false))) {
    if (server.exitCode !== null) throw new Error(`npm start ended with ${server.exitCode}`)
    if (Date.now() > end) throw new Error('npm start does not get there')
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}
