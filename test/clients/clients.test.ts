import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { beforeAll, expect, it } from 'vitest'
import { type Program, startProgram } from '../fixtures/program.ts'
import { root } from '../fixtures/root.ts'

/** The clients' own tests, each in its language, against a server that this test starts. */
let server: Program

beforeAll(async () => {
  server = await startProgram({ handlers: join(root, 'handlers/index.ts') })
})

async function run(folder: string, command: string, ...args: string[]): Promise<string> {
  const options = { cwd: join(root, 'clients', folder), env: { ...process.env, XQUEUE_SERVER: server.url } }
  const { stdout, stderr } = await promisify(execFile)(command, args, options).catch((failed) => failed)
  return stdout + stderr
}

it('passes the tests of the Python client', async () => {
  expect(await run('python', 'python3', '-W', 'error', '-m', 'unittest', 'discover', '-s', 'tests', '-t', '.')).toMatch(
    /Ran (1[3-9]|[2-9]\d) tests[\s\S]*\nOK\n$/,
  )
})

it('passes the tests of the Go client', { timeout: 180_000 }, async () => {
  const output = await run('go', 'go', 'test', '-count=1', '-v', '.')
  expect(output).toMatch(/\nok\s+xqueue/)
  expect(output.match(/--- PASS/g)!.length).toBeGreaterThanOrEqual(12)
})

it('the Go client is formatted by gofmt and passes go vet', { timeout: 180_000 }, async () => {
  expect(await run('go', 'gofmt', '-l', '.')).toBe('')
  expect(await run('go', 'go', 'vet', './...')).toBe('')
})
