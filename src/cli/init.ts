import { cpSync, existsSync, mkdirSync, readdirSync, renameSync, writeFileSync } from 'node:fs'
import { basename, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Command } from 'commander'
import { XQueueError } from '../task/errors.ts'
import { version } from '../version.ts'
import { print, withExamples } from './output.ts'

const STARTER = fileURLToPath(new URL('../../starter', import.meta.url))

/** `xqueue init`: a runnable starter project. */
export function initCommand(): Command {
  const command = new Command('init')
    .description('create a starter project with handlers, a typed client and start scripts')
    .argument('[folder]', 'new or empty folder', '.')
    .action((folder: string) => {
      const target = resolve(folder)
      writeProject(target)
      const here = relative(process.cwd(), target)
      print(`Created a project in ${target}. Next:\n${here === '' ? '' : `  cd ${here}\n`}  npm install\n  npm start`)
    })
  return withExamples(command, 'xqueue init my-queue', 'npx xqueue init my-queue')
}

/** @throws XQueueError `invalid_config` if the folder is not empty: existing files are never overwritten */
function writeProject(target: string): void {
  if (existsSync(target) && readdirSync(target).length > 0) {
    throw new XQueueError(
      'invalid_config',
      `${target} is not empty: choose a new folder, as in \`xqueue init my-queue\``,
    )
  }
  mkdirSync(target, { recursive: true })
  cpSync(STARTER, target, { recursive: true })
  renameSync(join(target, 'gitignore'), join(target, '.gitignore')) // npm publishes no .gitignore.
  writeFileSync(join(target, 'package.json'), `${JSON.stringify(manifest(target), null, 2)}\n`)
}

function manifest(target: string) {
  const words = basename(target)
    .toLowerCase()
    .split(/[^a-z0-9]/)
  const name = words.filter((word) => word !== '').join('-')
  return {
    name: name === '' || name === 'xqueue' ? 'my-queue' : name, // A package cannot depend on its own name.
    private: true,
    type: 'module',
    scripts: { start: 'exec xqueue serve --handlers handlers.ts', submit: 'node submit.ts' },
    dependencies: { xqueue: `^${version}` },
    devDependencies: { '@types/node': '^24.0.0' },
    engines: { node: '>=24.9' },
  }
}
