import type { Queue } from '../../src/queue/queue.ts'
import type { Loss } from './disk.ts'
import type { Entry } from './journal.ts'

/** The changes of a folder while a queue in it was used, with the answers that its callers received. */
export interface Recording {
  folder: string
  entries: Entry[]
  /** Processes that were killed, and changes that they had not recorded. */
  kills: number
  reconciled: number
  /**
   * Milliseconds before a loss of power whose changes may be lost. 0: nothing that was shown is lost; infinite: what is
   * left is consistent.
   */
  mayLoseMs: number
  /** The losses that the store has to stand. */
  losses: readonly Loss[]
  /** Opens the queue in a copy of the folder. */
  open(folder: string): Promise<Opened>
}

export interface Opened {
  queue: Queue
  /** What the store finds wrong with the files. */
  complaints: string[]
  /** Whether a person had to repair the files before the store could open them. */
  isRepaired: boolean
  close(): Promise<unknown>
}
