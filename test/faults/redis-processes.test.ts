import { cpSync, mkdtempSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { removeAtExit } from '../fixtures/processes.ts'
import { type RunningRedis, redisCli, startRedis } from '../fixtures/redis.ts'
import { expectKept, Load, repeatedly, WAIT_MS } from './load.ts'

let redis: RunningRedis
let load: Load
beforeEach(async () => {
  redis = await startRedis()
})
afterEach(async () => {
  await load?.stop()
})

describe('processes are killed under load', () => {
  it('takes back the leases of a killed worker with their permits', async () => {
    load = await Load.start(`${redis.url}?wait_ms=${WAIT_MS}`)
    const faults = await repeatedly(async () => {
      await load.progress()
      const worker = load.members.findLast(({ role }) => role === 'work')!
      await load.kill(worker)
      await load.add('work')
      await load.progress()
    })
    expectKept('worker killed', await load.finish(), faults)
  })

  it('keeps the tasks that were acknowledged to a killed submitter', async () => {
    load = await Load.start(`${redis.url}?wait_ms=${WAIT_MS}`)
    const faults = await repeatedly(async () => {
      await load.progress()
      await load.kill(load.members.findLast(({ role }) => role === 'submit')!)
      await load.add('submit')
      await load.progress()
    })
    expectKept('submitter killed', await load.finish(), faults)
  })

  it('loads its functions again when Redis has dropped them', async () => {
    load = await Load.start(`${redis.url}?wait_ms=${WAIT_MS}`)
    let faults = 0
    await repeatedly(async () => {
      for (let time = 0; time < 20; time++, faults++) {
        await load.progress(10)
        redisCli(redis.port, 'FUNCTION', 'FLUSH', 'SYNC')
        redisCli(redis.port, 'SCRIPT', 'FLUSH', 'SYNC')
      }
    })
    expect(load.count(({ what }) => what === 'refused')).toBe(0)
    expectKept('FUNCTION FLUSH', await load.finish(), faults)
  })
})

describe('two versions of the program on one Redis', () => {
  it('work at the same time, and take over from each other', async () => {
    const project = join(import.meta.dirname, '../..')
    const other = removeAtExit(mkdtempSync(join(tmpdir(), 'xqueue-version-')))
    cpSync(join(project, 'src'), join(other, 'src'), { recursive: true })
    cpSync(join(project, 'package.json'), join(other, 'package.json'))
    symlinkSync(join(project, 'node_modules'), join(other, 'node_modules'))
    const shared = join(other, 'src/store/redis/records/shared.lua')
    writeFileSync(shared, `-- Another version.\n${readFileSync(shared, 'utf8')}`)
    const source = (index: number) => join(index % 2 === 0 ? project : other, 'src')

    load = await Load.start(`${redis.url}?wait_ms=${WAIT_MS}`, { source, workers: 2, submitters: 2 })
    await load.progress(300)
    // The deploy goes on: the old worker leaves in the middle of its work, a new one comes.
    await load.kill(load.members[0]!)
    await load.add('work')
    await load.progress(300)
    expect(load.count(({ what }) => what === 'refused')).toBe(0)
    expectKept('two versions', await load.finish(), 1)
  })
})
