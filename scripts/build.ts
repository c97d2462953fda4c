import { execFileSync } from 'node:child_process'
import { cpSync, globSync, rmSync } from 'node:fs'
import { join } from 'node:path'

/** Compiles src/ and handlers/ into dist/ for publishing, and takes along SQL, Lua, the dashboard and the starter. */
const root = join(import.meta.dirname, '..')
rmSync(join(root, 'dist'), { recursive: true, force: true })
const tsc = join(root, 'node_modules/typescript/bin/tsc')
execFileSync(process.execPath, [tsc, '-p', 'tsconfig.build.json'], { cwd: root, stdio: 'inherit' })
for (const file of globSync('src/**/*.{sql,lua}', { cwd: root })) cpSync(join(root, file), join(root, 'dist', file))
execFileSync(process.execPath, [join(root, 'scripts/dashboard.ts'), '--if-older'], { stdio: 'inherit' })
cpSync(join(root, 'dashboard/dist'), join(root, 'dist/dashboard/dist'), { recursive: true })
cpSync(join(root, 'starter'), join(root, 'dist/starter'), { recursive: true })
