import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { removeAtExit } from '../fixtures/processes.ts'
import { SeededRandom } from '../simulation/random.ts'
import { Disk, type Loss } from './disk.ts'
import type { Entry } from './journal.ts'
import { promisesOf, timeOf } from './promises.ts'
import type { Opened, Recording } from './recording.ts'
import { historyOf, judge } from './verdict.ts'

export interface Findings {
  cuts: number
  /** Accepted tasks and shown statuses that were compared, over all cuts. */
  promises: number
  /** Folders that a person had to repair first. */
  repaired: number
  violations: string[]
}

/**
 * Cuts the power at random moments of a recording, and judges what each of them leaves.
 * @param isDeaf the disk does not sync what it says that it has synced: the judge must find a loss
 */
export async function cutPower(recorded: Recording, cuts: number, seed: number, isDeaf = false): Promise<Findings> {
  const random = new SeededRandom(seed)
  const entries = isDeaf ? recorded.entries.filter(({ kind }) => kind !== 'syncEnd') : recorded.entries
  const findings: Findings = { cuts, promises: 0, repaired: 0, violations: [] }
  const end = diskAt(recorded, entries, entries.length)
  const whole = await inCopy(recorded, end, 'all', random, ({ queue }) => historyOf(queue))
  const places = placesIn(entries, cuts, random)
  const disk = diskAt(recorded, entries, 0)
  for (const place of places) {
    // What was answered too early is lost for certain if nothing else is kept.
    const loss = random.chance(0.3) ? 'none' : random.one(recorded.losses)
    disk.advance(entries, place)
    const before = entries.slice(0, place)
    const promises = promisesOf(before, timeOf(before) - recorded.mayLoseMs)
    const found = await inCopy(recorded, disk, loss, random, async ({ queue, complaints, isRepaired }) => {
      if (isRepaired) findings.repaired += 1
      return [...complaints, ...(await judge(queue, promises, whole))]
    }).catch((error: Error) => [`it does not open: ${error.message}`])
    findings.promises += promises.accepted.size + promises.shown.size
    findings.violations.push(...found.map((what) => `cut at entry ${place} of ${entries.length}, ${loss}: ${what}`))
  }
  return findings
}

/** Half of them are just after an answer, which was early if it did not wait for the disk. */
function placesIn(entries: readonly Entry[], cuts: number, random: SeededRandom): number[] {
  const marks = entries.flatMap(({ kind }, index) => (kind === 'mark' ? [index + 1] : []))
  const place = () => (random.chance(0.5) ? random.one(marks) : random.between(marks[0]!, entries.length))
  return Array.from({ length: cuts }, place).sort((a, b) => a - b)
}

function diskAt({ folder }: Recording, entries: readonly Entry[], place: number): Disk {
  const disk = new Disk(folder)
  disk.advance(entries, place)
  return disk
}

async function inCopy<T>(
  { open }: Recording,
  disk: Disk,
  loss: Loss,
  random: SeededRandom,
  work: (opened: Opened) => Promise<T>,
): Promise<T> {
  const copy = removeAtExit(mkdtempSync(join(tmpdir(), 'xqueue-cut-')))
  try {
    disk.leave(copy, loss, random)
    const opened = await open(copy)
    try {
      return await work(opened)
    } finally {
      await opened.close()
    }
  } finally {
    rmSync(copy, { recursive: true, force: true })
  }
}
