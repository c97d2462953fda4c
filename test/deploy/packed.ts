import { execFileSync } from 'node:child_process'
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { temporaryFolder } from '../fixtures/folder.ts'
import { root } from '../fixtures/root.ts'

/** The environment of a user. Node 24 is first, also where the machine's own is older. */
export const env = { ...process.env, PATH: `${dirname(process.execPath)}:${process.env.PATH}`, NODE_ENV: '' }

export interface Packed {
  size: number
  unpackedSize: number
  paths: string[]
  tarball: string
  /** The files of the package, with the dependencies of the repository. */
  unpacked: string
  /** What `xqueue init` wrote, with the package installed from its tarball. */
  project: string
}

export const run = (command: string, args: string[], cwd: string) =>
  execFileSync(command, args, { cwd, env, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] })

/** Does what a new user does: unpacks the package, creates a project with `xqueue init` and installs it there. */
export function packAndInstall(): Packed {
  const folder = temporaryFolder()
  const [unpacked, project] = [join(folder, 'node_modules/xqueue'), join(folder, 'project')]
  run(process.execPath, [join(root, 'scripts/build.ts')], root)
  const output = run('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', folder], root)
  const [{ filename, size, unpackedSize, files }] = Object.values(JSON.parse(output)) as [
    { filename: string; size: number; unpackedSize: number; files: { path: string }[] },
  ]
  const tarball = join(folder, filename)
  // As `npx --package` installs it, with the repository's dependencies: one installation is slow enough.
  mkdirSync(unpacked, { recursive: true })
  run('tar', ['-xzf', tarball, '--strip-components', '1', '-C', unpacked], folder)
  symlinkSync(join(root, 'node_modules'), join(unpacked, 'node_modules'))
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ dependencies: { xqueue: `file:${filename}` } }))
  run(process.execPath, [join(unpacked, 'dist/src/cli/xqueue.js'), 'init', project], folder)
  run('npm', ['install', '--prefer-offline', '--no-audit', '--no-fund'], project)
  return { size, unpackedSize, paths: files.map(({ path }) => path), tarball, unpacked, project }
}
