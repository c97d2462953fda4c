import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** Installs the packages of the bench, unless those of this package-lock.json are there already. */
const folder = import.meta.dirname
const lock = createHash('sha256')
  .update(readFileSync(join(folder, 'package-lock.json')))
  .digest('hex')
const installed = join(folder, 'node_modules/.installed')
if (!existsSync(installed) || readFileSync(installed, 'utf8') !== lock) {
  const args = ['ci', '--prefix', folder, '--no-audit', '--no-fund', '--silent']
  execFileSync('npm', args, { stdio: 'inherit' })
  writeFileSync(installed, lock)
}
