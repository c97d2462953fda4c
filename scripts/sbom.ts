import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/**
 * `npm run -s sbom`: the software bill of materials (CycloneDX, JSON) of everything that is installed with XQueue, on
 * standard output. `npm sbom --omit dev` leaves out each package that tests need as well (jose, yaml …), so npm is
 * shown the project without its development dependencies.
 */
const NPM = 'npm@10.9.4'
const root = join(import.meta.dirname, '..')
const read = (file: string) => JSON.parse(readFileSync(join(root, file), 'utf8'))

const { name, version, description, license, dependencies } = read('package.json')
const manifest = { name, version, description, license, dependencies }
const lock = read('package-lock.json')
const isInstalled = ([, { dev }]: [string, { dev?: boolean }]) => !dev
const packages = {
  ...Object.fromEntries(Object.entries<{ dev?: boolean }>(lock.packages).filter(isInstalled)),
  '': manifest,
}

const parent = mkdtempSync(join(tmpdir(), 'xqueue-sbom-'))
try {
  writeFileSync(join(parent, 'package.json'), JSON.stringify(manifest))
  writeFileSync(join(parent, 'package-lock.json'), JSON.stringify({ ...lock, packages }))
  // npm 9.2, which Debian has, does not know `sbom`.
  const args = ['--yes', NPM, 'sbom', '--package-lock-only', '--sbom-format', 'cyclonedx']
  execFileSync('npx', args, { cwd: parent, stdio: 'inherit' })
} finally {
  rmSync(parent, { recursive: true })
}
