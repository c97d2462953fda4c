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

/** Options that select tasks. */
export function withFilter(command: Command): Command {
  return command
    .optionsGroup('Filter:')
    .option('--status <status>', 'select by status: pending, processing, success, failed, canceled, timeout')
    .option('--type <type>', 'select by task type')
    .option('--tag <key:value>', 'select by tag')
    .option('--group <group>', 'select by group')
    .option('--batch <name>', 'select by batch')
    .optionsGroup('Options:')
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
