import { existsSync, globSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { brotliCompressSync, gzipSync } from 'node:zlib'

/**
 * Builds the dashboard into dashboard/dist, with each file compressed beside it; `--if-older` only when a source is
 * newer than that. npm runs it at install and before each start, automatically.
 */
const root = join(import.meta.dirname, '../dashboard')
const dist = join(root, 'dist')
const built = join(dist, 'index.html')

if (process.argv.includes('--if-older') && isFresh()) process.exit(0)
const vite = await import('vite').catch((error: NodeJS.ErrnoException) => {
  if (error.code === 'ERR_MODULE_NOT_FOUND' && error.message.includes("'vite'")) return null
  throw error
})
if (vite) {
  await vite.build({ root, logLevel: 'warn' })
  for (const file of globSync('**/*.{html,js,css,svg}', { cwd: dist })) compress(join(dist, file))
} else {
  console.error('The dashboard is not built: Vite is a development dependency, and npm left those out (--omit=dev)')
}

function isFresh(): boolean {
  if (!existsSync(built)) return false
  // The last ones are shared with the server.
  const shared = '../src/task/{error-pattern,run-again,stack}.ts'
  const sources = globSync(['index.html', '*.ts', '*.json', 'src/**', 'public/**', shared], { cwd: root })
  return sources.every((file) => statSync(join(root, file)).mtimeMs <= statSync(built).mtimeMs)
}

function compress(path: string): void {
  const content = readFileSync(path)
  writeFileSync(`${path}.br`, brotliCompressSync(content))
  writeFileSync(`${path}.gz`, gzipSync(content, { level: 9 }))
}
