import { cpSync, globSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { pathToFileURL } from 'node:url'
import { build } from 'esbuild'

/** The client runs on older versions of Node.js, in which `require` loads CommonJS only, and in old browsers. */
const CLIENT = 'src/client'
const CLIENT_TARGET = 'es2022'

/**
 * Removes declarations that no entry of the package refers to, and lets the others refer to files that exist there:
 * TypeScript keeps `.ts` in them.
 *
 * @param entries paths without extension, such as `src/index`
 */
export function keepReachableTypes(dist: string, entries: readonly string[]): void {
  const reachable = new Set<string>()
  const visit = (file: string) => {
    if (reachable.has(file)) return
    reachable.add(file)
    const text = readFileSync(file, 'utf8').replaceAll(/(from |import\()(['"])(\.[^'"]+)\.ts\2/g, '$1$2$3.js$2')
    writeFileSync(file, text)
    for (const [, path] of text.matchAll(/(?:from |import\()['"](\.[^'"]+)\.js['"]/g)) {
      visit(join(dirname(file), `${path}.d.ts`))
    }
  }
  for (const entry of entries) visit(join(dist, `${entry}.d.ts`))
  for (const file of globSync('**/*.d.ts', { cwd: dist })) {
    if (!reachable.has(join(dist, file))) rmSync(join(dist, file))
  }
}

/**
 * Writes dist/cjs, which `require` receives: the declarations again, because their format depends on their folder; the
 * client in one file; and for the other entries, which need a new Node.js, a file that requires the ES module.
 */
export async function writeCommonJs(dist: string, entries: readonly string[]): Promise<void> {
  const target = join(dist, 'cjs')
  for (const file of globSync('**/*.d.ts', { cwd: dist })) cpSync(join(dist, file), join(target, file))
  writeFileSync(join(target, 'package.json'), '{ "type": "commonjs" }\n')
  for (const entry of entries) {
    const file = join(target, `${entry}.js`)
    mkdirSync(dirname(file), { recursive: true })
    if (entry === CLIENT) await bundle(join(dist, `${entry}.js`), file)
    else writeFileSync(file, await requiring(join(dist, `${entry}.js`), file))
  }
}

async function bundle(source: string, outfile: string): Promise<void> {
  const format = { bundle: true, format: 'cjs', platform: 'neutral', target: CLIENT_TARGET } as const
  await build({ ...format, entryPoints: [source], outfile, logLevel: 'warning' })
}

/** Each export is assigned by its name, because tools find only such exports. */
async function requiring(source: string, file: string): Promise<string> {
  const names = Object.keys(await import(pathToFileURL(source).href))
  const lines = [
    "'use strict'",
    `const all = require(${JSON.stringify(relative(dirname(file), source))})`,
    "Object.defineProperty(exports, '__esModule', { value: true })",
    ...names.map((name) => `exports.${name} = all.${name}`),
  ]
  return `${lines.join('\n')}\n`
}
