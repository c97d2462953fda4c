import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { root } from './xqueue.ts'

/**
 * A Debian package unpacked beside the system, once: nothing is installed. Only root's lists of packages are read.
 * @returns the folder in which its files are
 */
export function unpacked(name: string): string {
  const folder = join(root, '.cache/debian', name)
  if (existsSync(folder)) return folder
  mkdirSync(join(root, '.cache/debian'), { recursive: true })
  const part = mkdtempSync(`${folder}-`)
  try {
    download(name, part)
    const [file] = readdirSync(part).filter((one) => one.endsWith('.deb'))
    execFileSync('dpkg-deb', ['-x', join(part, file!), part])
    rmSync(join(part, file!))
    renameSync(part, folder)
  } catch (error) {
    rmSync(part, { recursive: true, force: true })
    if (!existsSync(folder)) throw error
  }
  return folder
}

/** The first of these packages that this release has. A program may have moved to a package of its own. */
export function firstPackage(...names: string[]): string {
  const found = names.find((name) => spawnSync('apt-cache', ['show', name], { stdio: 'ignore' }).status === 0)
  return found ?? names.at(-1)!
}

function download(name: string, into: string): void {
  const get = () => execFileSync('apt-get', ['download', name], { cwd: into, stdio: ['ignore', 'ignore', 'inherit'] })
  try {
    get()
  } catch {
    execFileSync('apt-get', ['update'], { stdio: 'ignore' })
    get()
  }
}
