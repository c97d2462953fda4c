import { appendFileSync } from 'node:fs'
import { join } from 'node:path'

/** Loaded into every process of a test file with `--import`: writes each function that runs, once. */
const seen = new Set<string>()
const file = join(process.env.MUTANT_HITS!, String(process.pid))
Object.assign(globalThis, {
  __hit: (name: string) => {
    if (seen.has(name)) return
    seen.add(name)
    appendFileSync(file, `${name}\n`)
  },
})
