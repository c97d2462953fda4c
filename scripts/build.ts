import { execFileSync } from 'node:child_process'
import { cpSync, globSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { keepReachableTypes, writeCommonJs } from './commonjs.ts'

/** Compiles src/ and handlers/ into dist/ for publishing, and takes along SQL, Lua, the dashboard and the starter. */
const root = join(import.meta.dirname, '..')
const dist = join(root, 'dist')
rmSync(dist, { recursive: true, force: true })
const tsc = join(root, 'node_modules/typescript/bin/tsc')
execFileSync(process.execPath, [tsc, '-p', 'tsconfig.build.json'], { cwd: root, stdio: 'inherit' })
const { exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
const entries = Object.values<{ import?: { default: string } }>(exports).flatMap((entry) => {
  const file = entry.import?.default
  return file ? [file.replace(/^\.\/dist\/|\.js$/g, '')] : []
})
keepReachableTypes(dist, entries)
await writeCommonJs(dist, entries)
for (const file of globSync('src/**/*.{sql,lua}', { cwd: root })) cpSync(join(root, file), join(dist, file))
execFileSync(process.execPath, [join(root, 'scripts/dashboard.ts'), '--if-older'], { stdio: 'inherit' })
cpSync(join(root, 'dashboard/dist'), join(dist, 'dashboard/dist'), { recursive: true })
cpSync(join(root, 'starter'), join(dist, 'starter'), { recursive: true })
