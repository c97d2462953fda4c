import { join } from 'node:path'
import { afterEach, expect, it } from 'vitest'
import { SmallDisk } from '../fixtures/small-disk.ts'
import { expectKept, Load, repeatedly } from './load.ts'

let disk: SmallDisk
let load: Load | undefined
afterEach(async () => {
  await load?.stop()
  disk.remove()
})

it('refuses submissions while the disk is full, loses no accepted task, and continues when there is space', async () => {
  disk = new SmallDisk(96)
  load = await Load.start(`sqlite:${join(disk.folder, 'x.db')}`, { workers: 2, submitters: 2, rate: 200 })
  await load.progress()
  const refused = () => load!.count(({ what }) => what === 'refused')
  const faults = await repeatedly(async () => {
    const before = refused()
    await load!.until(() => {
      disk.fill() // Repeatedly, because space that is freed meanwhile is filled too.
      return refused() >= before + 10
    }, 'submissions are refused')
    disk.makeRoom()
    await load!.progress()
  })
  const codes = load.lines().flatMap((line) => (line.what === 'refused' ? [line.code] : []))
  expect([...new Set(codes)]).toEqual(['engine_unavailable'])
  expectKept('a full disk', await load.finish(), faults)
})
