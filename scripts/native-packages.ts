import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/**
 * Adds the native packages that npm left out because of the Node that it runs under. `npm ci` under Node 18 (Debian 12)
 * skips the bundler's binary without a word, since that asks for Node 20; the Node 24 that comes along would run it.
 * npm calls this after an installation; where nothing is missing it does nothing.
 */
const root = join(import.meta.dirname, '..')

interface Locked {
  version: string
  integrity: string
  optional?: boolean
  dev?: boolean
  os?: string[]
  cpu?: string[]
  libc?: string[]
}

const { packages } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as {
  packages: Record<string, Locked>
}
const { header } = process.report.getReport() as unknown as { header: { glibcVersionRuntime?: string } }
const libc = header.glibcVersionRuntime ? 'glibc' : 'musl'
const fits = ({ os, cpu, libc: wanted }: Locked) =>
  os?.includes(process.platform) && cpu?.includes(process.arch) && (wanted === undefined || wanted.includes(libc))
// With `npm ci --omit=dev` the compiler is absent as well: then nothing of the build is wanted.
const withDevelopment = existsSync(join(root, 'node_modules/typescript'))

for (const [path, locked] of Object.entries(packages)) {
  const isWanted = locked.optional && fits(locked) && (withDevelopment || !locked.dev)
  if (isWanted && !existsSync(join(root, path))) add(path, locked)
}

function add(path: string, locked: Locked): void {
  const name = path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length)
  try {
    fetchPackage(path, name, locked)
  } catch (error) {
    console.error(
      `${name} cannot be installed, and the dashboard cannot be built without it: ${(error as Error).message}\n` +
        'Run `npm ci` with Node 20.19 or newer, or where the npm registry can be reached.',
    )
    process.exit(1)
  }
}

/** @throws Error if the package cannot be fetched or is not the one that the lock file names */
function fetchPackage(path: string, name: string, { version, integrity }: Locked): void {
  const folder = mkdtempSync(join(tmpdir(), 'xqueue-native-'))
  try {
    execFileSync('npm', ['pack', `${name}@${version}`, '--silent', '--pack-destination', folder], { stdio: 'pipe' })
    const archive = join(folder, readdirSync(folder)[0]!)
    const digest = `sha512-${createHash('sha512').update(readFileSync(archive)).digest('base64')}`
    if (digest !== integrity) throw new Error(`${name}@${version} is not what package-lock.json names`)
    mkdirSync(join(root, path), { recursive: true })
    execFileSync('tar', ['-xzf', archive, '--strip-components=1', '-C', join(root, path)])
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
