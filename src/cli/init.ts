import { spawnSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { basename, dirname, join, relative, resolve } from 'node:path'
import { Command } from 'commander'
import { XQueueError } from '../task/errors.ts'
import { version } from '../version.ts'
import { print, withExamples } from './output.ts'

const STARTER = join(import.meta.dirname, '../../starter')
/** A program of TypeScript files is one of a clone: npm publishes compiled ones. */
const IS_CLONE = import.meta.url.endsWith('.ts')
const PACKAGE = join(import.meta.dirname, IS_CLONE ? '../..' : '../../..')

/** `xqueue init`: a runnable starter project. */
export function initCommand(): Command {
  const command = new Command('init')
    .description('create a starter project with handlers, a test, a typed client, start scripts and a Dockerfile')
    .argument('[folder]', 'new or empty folder', '.')
    .option('--javascript', 'write JavaScript in place of TypeScript')
    .action((folder: string, { javascript = false }: { javascript?: boolean }) => {
      const target = resolve(folder)
      writeProject(target, javascript ? 'js' : 'ts')
      const here = relative(process.cwd(), target)
      const enter = here === '' ? '' : `  cd ${quoted(here)}\n`
      print(`Created a project in ${target}. Next:\n${enter}  npm install\n  npm start`)
    })
  return withExamples(command, 'xqueue init my-queue', 'npx xqueue init my-queue --javascript')
}

/** For a shell; the one of Windows knows double quotes only. */
function quoted(path: string): string {
  if (/^[\w./\\:@-]+$/.test(path)) return path
  return process.platform === 'win32' ? `"${path}"` : `'${path.replaceAll("'", `'\\''`)}'`
}

type Language = 'ts' | 'js'

/** @throws XQueueError `invalid_config` if the folder is not empty: existing files are never overwritten */
function writeProject(target: string, language: Language): void {
  if (existsSync(target) && readdirSync(target).length > 0) {
    throw new XQueueError(
      'invalid_config',
      `${target} is not empty: choose a new folder, as in \`xqueue init my-queue\``,
    )
  }
  mkdirSync(target, { recursive: true })
  const other = language === 'ts' ? '.js' : '.ts'
  for (const name of readdirSync(STARTER).filter((file) => !file.endsWith(other))) {
    const text = readFileSync(join(STARTER, name), 'utf8')
    // npm publishes no .gitignore.
    const written = name.endsWith('ignore') ? `.${name}` : name
    const isOfCode = name === 'README.md' || name === 'Dockerfile'
    writeFileSync(join(target, written), isOfCode ? text.replaceAll(/\.ts\b/g, `.${language}`) : text)
  }
  if (language === 'js') writeFileSync(join(target, 'tsconfig.json'), inJavaScript(join(target, 'tsconfig.json')))
  writeFileSync(join(target, 'package.json'), `${JSON.stringify(manifest(target, language), null, 2)}\n`)
}

/** Editors check JavaScript by its comments. */
function inJavaScript(file: string): string {
  const { compilerOptions } = JSON.parse(readFileSync(file, 'utf8'))
  const { erasableSyntaxOnly: _, verbatimModuleSyntax: __, ...options } = compilerOptions
  const settings = { compilerOptions: { ...options, allowJs: true, checkJs: true }, include: ['*.js'] }
  return `${JSON.stringify(settings, null, 2)}\n`
}

function manifest(target: string, language: Language) {
  const words = basename(target)
    .toLowerCase()
    .split(/[^a-z0-9]/)
  const name = words.filter((word) => word !== '').join('-')
  return {
    name: name === '' || name === 'xqueue' ? 'my-queue' : name, // A package cannot depend on its own name.
    private: true,
    type: 'module',
    scripts: {
      start: `exec xqueue serve --handlers handlers.${language}`,
      submit: `node submit.${language}`,
      test: `node --test "**/*.test.${language}"`, // An older Node finds no such files, and fails.
    },
    dependencies: { xqueue: ownPackage(target) },
    devDependencies: { '@types/node': '^24.0.0', node: '^24.9.0' }, // npm's scripts and npx run this Node.
    allowScripts: { node: true },
    engines: { node: '>=24.9' },
  }
}

/** The package that this program belongs to: its version on npm, or the file or clone from which it was started. */
function ownPackage(target: string): string {
  if (IS_CLONE) return packedClone(target)
  const [around, folder] = [resolve(PACKAGE, '../..'), basename(dirname(PACKAGE))]
  const installed = folder === 'node_modules' ? readManifest(join(around, 'package.json')) : {}
  const wanted = installed.dependencies?.xqueue
  if (!wanted?.startsWith('file:')) return `^${version}`
  const file = resolve(around, wanted.slice('file:'.length))
  if (!file.endsWith('.tgz')) return `file:${relative(target, file)}`
  copyFileSync(file, join(target, basename(file))) // An image is built from the files of the project alone.
  return `file:${basename(file)}`
}

function readManifest(file: string): { dependencies?: Record<string, string> } {
  return existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : {}
}

/** Builds the package of this clone into the project, which needs the clone no more. */
function packedClone(target: string): string {
  print('Building the package of this clone …')
  const command = ['pack', '--silent', '--pack-destination', target]
  const isWindows = process.platform === 'win32'
  const { status, stdout, stderr } = spawnSync('npm', command, { cwd: PACKAGE, encoding: 'utf8', shell: isWindows })
  if (status !== 0) throw new XQueueError('invalid_config', `\`npm pack\` failed in ${PACKAGE}: ${stderr.trim()}`)
  return `file:${stdout.trim().split('\n').at(-1)}`
}
