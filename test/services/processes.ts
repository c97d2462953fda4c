import type { ChildProcess } from 'node:child_process'
import { rmSync } from 'node:fs'

const processes = new Set<ChildProcess>()
const folders = new Set<string>()

/** Should the tests end before they stop what they started, it ends with them. */
export function endAtExit(process: ChildProcess): ChildProcess {
  processes.add(process)
  process.once('exit', () => processes.delete(process))
  return process
}

/** And the folder goes. */
export function removeAtExit(folder: string): string {
  folders.add(folder)
  return folder
}

process.once('exit', () => {
  for (const child of processes) child.kill('SIGKILL')
  for (const folder of folders) rmSync(folder, { recursive: true, force: true })
})
