import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { loadConfig, variableOf } from '../../src/config/config.ts'
import { SETTINGS } from '../../src/config/settings.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { main } from '../fixtures/root.ts'

const folder = temporaryFolder()

function fileWith(text: string): string {
  const file = join(folder, `secret-${Math.random()}`)
  writeFileSync(file, text)
  return file
}

it.each(SETTINGS.map(({ name }) => name))('%s can be given as a file', async (name) => {
  // What the file says is read as the value would be: a wrong one is refused, naming the variable that names the file.
  const env = { [`${variableOf(name)}_FILE`]: '/nowhere/secret' }
  await expect(loadConfig({}, env, folder)).rejects.toThrow(`${variableOf(name)}_FILE names a file that cannot be read`)
})

it('reads a secret from a file without the line break at its end', async () => {
  const url = 'redis://:p ass@localhost'
  for (const end of ['', '\n', '\r\n']) {
    const { config, sources } = await loadConfig({}, { XQUEUE_ENGINE_FILE: fileWith(`${url}${end}`) }, folder)
    expect(config.engine).toBe(url)
    expect(sources.find(({ name }) => name === 'engine')!.source).toBe('XQUEUE_ENGINE_FILE')
  }
})

it('refuses a value that is set twice, and an empty file', async () => {
  const file = fileWith('x')
  await expect(loadConfig({}, { XQUEUE_HTTP_SECRET: 'a', XQUEUE_HTTP_SECRET_FILE: file }, folder)).rejects.toThrow(
    'XQUEUE_HTTP_SECRET and XQUEUE_HTTP_SECRET_FILE are both set',
  )
  await expect(loadConfig({}, { XQUEUE_HTTP_SECRET_FILE: fileWith('\n') }, folder)).rejects.toThrow(
    'names an empty file',
  )
  await expect(loadConfig({}, { XQUEUE_NOTHING_FILE: file }, folder)).rejects.toThrow('is not a setting')
})

it('commands read the key from a file, and report in one line if it cannot be read', () => {
  const run = (env: object) =>
    spawnSync(process.execPath, [main, 'stats', '--server', 'http://127.0.0.1:9'], {
      encoding: 'utf8',
      env: { ...process.env, ...env },
    })
  expect(run({ XQUEUE_KEY_FILE: fileWith('xq_secret') }).status).toBe(3) // The command has made its call.
  const { status, stderr } = run({ XQUEUE_KEY_FILE: join(folder, 'none') })
  expect([status, stderr.trim().split('\n')]).toEqual([2, [expect.stringContaining('XQUEUE_KEY_FILE names a file')]])
})
