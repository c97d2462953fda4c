import { readFileSync } from 'node:fs'
import { XQueueError } from '../task/errors.ts'

/** Suffix of a variable that names a file with the value. */
export const FILE_SUFFIX = '_FILE'

/**
 * Reads a secret from a file, without a line break at its end.
 * @throws XQueueError `invalid_config` naming the variable
 */
export function readSecret(variable: string, file: string): string {
  let text: string
  try {
    text = readFileSync(file, 'utf8').replace(/\r?\n$/, '')
  } catch (error) {
    throw new XQueueError('invalid_config', `${variable} names a file that cannot be read: ${(error as Error).message}`)
  }
  if (text === '') throw new XQueueError('invalid_config', `${variable} names an empty file: ${file}`)
  return text
}
