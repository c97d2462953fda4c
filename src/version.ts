import { readFileSync } from 'node:fs'

/** Of package.json, which stands one folder up in the source and two up in what is published. */
export const version: string = readVersion('../package.json') ?? readVersion('../../package.json') ?? 'unknown'

function readVersion(path: string): string | undefined {
  try {
    const { name, version } = JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8'))
    return name === 'xqueue' ? version : undefined
  } catch {
    return undefined // Not at this depth.
  }
}
