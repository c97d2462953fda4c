import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openEngine } from '../../src/engine/open.ts'
import { engineContract } from './contract.ts'

engineContract('SQLite in memory', async (options) => {
  const engine = await openEngine('sqlite::memory:', options)
  return { engine, second: () => openEngine(engine.url, options), cleanup: () => engine.close() }
})

engineContract('SQLite on a file', async (options) => {
  const folder = mkdtempSync(join(tmpdir(), 'xqueue-'))
  const url = `sqlite:${join(folder, 'x.db')}`
  const engine = await openEngine(url, options)
  const cleanup = async () => {
    await engine.close()
    rmSync(folder, { recursive: true })
  }
  return { engine, second: () => openEngine(url, options), cleanup }
})
