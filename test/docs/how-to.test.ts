import { execFile } from 'node:child_process'
import { globSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { Ajv } from 'ajv'
import { expect, it } from 'vitest'
import { parse } from 'yaml'
import { temporaryFolder } from '../fixtures/folder.ts'
import { startNginx } from '../fixtures/nginx.ts'
import { Reader } from '../fixtures/reader.ts'
import { root } from '../fixtures/root.ts'
import { startServer } from '../fixtures/server.ts'
import { snippetsOf } from '../fixtures/snippets.ts'

const pages = globSync('docs/how-to/*.md', { cwd: root }).filter((page) => !page.endsWith('README.md'))

it('the list names every page', () => {
  const list = readFileSync(join(root, 'docs/how-to/README.md'), 'utf8')
  expect(pages.filter((page) => !list.includes(`](${basename(page)})`))).toEqual([])
})

// Some pages start a dozen processes; each command has a bound of its own.
it.each(pages)('%s works by copy and paste', { timeout: 300_000 }, async (page) => {
  const reader = await Reader.create()
  expect(await reader.follow(page)).toEqual([])
})

it('the TypeScript of all pages compiles', async () => {
  const folder = temporaryFolder()
  for (const name of ['node_modules', 'package.json']) symlinkSync(join(root, name), join(folder, name))
  for (const page of pages) {
    for (const { name, code } of snippetsOf(page)) {
      if (!name?.endsWith('.ts')) continue
      const file = join(folder, basename(page, '.md'), name)
      mkdirSync(dirname(file), { recursive: true })
      writeFileSync(file, code)
      // The page copies it there.
      if (name === 'src/main.ts') {
        writeFileSync(join(dirname(file), 'handlers.ts'), `export { default } from '../handlers.ts'\n`)
      }
    }
  }
  const paths = Object.fromEntries(
    Object.entries({ xqueue: 'index', 'xqueue/client': 'client', 'xqueue/testing': 'testing' }).map(([name, entry]) => [
      name,
      [join(root, 'src', `${entry}.ts`)],
    ]),
  )
  const compilerOptions = { erasableSyntaxOnly: false, experimentalDecorators: true, noEmit: true, paths, rootDir: '/' }
  const settings = { extends: join(root, 'tsconfig.json'), compilerOptions, include: ['*/**/*.ts'] }
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify(settings))
  const tsc = join(root, 'node_modules/typescript/bin/tsc')
  const compiled = promisify(execFile)(process.execPath, [tsc, '-p', folder])
  await expect(compiled.catch(({ stdout }) => stdout)).resolves.toMatchObject({ stdout: '' })
})

it('nginx passes calls on with the lines for one machine', async () => {
  const server = await startServer()
  const { code } = snippetsOf('docs/how-to/deploy-on-one-machine.md').find(({ language }) => language === 'nginx')!
  const nginx = await startNginx(code.replace('http://127.0.0.1:8080/', `${server.url}/`))
  const { stdout } = await promisify(execFile)('curl', ['-sk', `${nginx.url}/api/v1/health`])
  expect(JSON.parse(stdout)).toMatchObject({ status: 'healthy' })
  nginx.stop()
})

it('the chart accepts the values for Kubernetes', () => {
  const { code } = snippetsOf('docs/how-to/deploy-on-kubernetes.md').find(({ name }) => name === 'values.yaml')!
  const schema = JSON.parse(readFileSync(join(root, 'deploy/helm/xqueue/values.schema.json'), 'utf8'))
  const accepts = new Ajv({ strict: false }).compile(schema)
  const defaults = parse(readFileSync(join(root, 'deploy/helm/xqueue/values.yaml'), 'utf8'))
  expect(accepts({ ...defaults, ...withDefaults(parse(code), defaults) }) || accepts.errors).toBe(true)
})

// biome-ignore lint/suspicious/noExplicitAny: values of a chart
function withDefaults(values: any, defaults: any): any {
  if (Array.isArray(values) || typeof values !== 'object') return values
  const names = Object.keys(values)
  return {
    ...defaults,
    ...Object.fromEntries(names.map((name) => [name, withDefaults(values[name], defaults?.[name])])),
  }
}
