import { readFileSync } from 'node:fs'

/** The version in package.json, one folder up in the source and two folders up in the package. */
export const version: string = readVersion('../package.json') ?? readVersion('../../package.json') ?? 'unknown'

function readVersion(path: string): string | undefined {
  try {
    const { name, version } = JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8'))
    return name === 'xqueue' ? version : undefined
  } catch {
    return undefined // Not at this depth.
  }
}
