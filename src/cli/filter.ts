import type { Command } from 'commander'
import type { Status } from '../task/status.ts'
import type { ClientOptions } from './output.ts'

export interface FilterOptions extends ClientOptions {
  status?: Status
  type?: string
  tag?: string
  group?: string
  batch?: string
}

/** Options that choose tasks. */
export function withFilter(command: Command): Command {
  return command
    .option('--status <status>', 'pending, processing, success, failed, canceled or timeout')
    .option('--type <type>', 'task type')
    .option('--tag <key:value>', 'a tag')
    .option('--group <group>', 'a group')
    .option('--batch <name>', 'a batch')
}

/** The filter as the API names it. */
export function filterOf({
  status,
  type,
  tag,
  group,
  batch,
}: FilterOptions): Record<string, string> & { batch?: string } {
  return {
    ...(status ? { status } : {}),
    ...(type ? { type } : {}),
    ...(tag ? { tag } : {}),
    ...(group ? { group } : {}),
    ...(batch ? { batch } : {}),
  }
}
