import { execFileSync } from 'node:child_process'
import { cpSync, globSync, rmSync } from 'node:fs'
import { join } from 'node:path'

/** Compiles src/ and handlers/ into dist/ for publishing, and takes along what is no TypeScript: SQL, Lua and the page. */
const root = join(import.meta.dirname, '..')
rmSync(join(root, 'dist'), { recursive: true, force: true })
const tsc = join(root, 'node_modules/typescript/bin/tsc')
execFileSync(process.execPath, [tsc, '-p', 'tsconfig.build.json'], { cwd: root, stdio: 'inherit' })
for (const file of globSync('src/**/*.{sql,lua,html,css,js}', { cwd: root }))
  cpSync(join(root, file), join(root, 'dist', file))
