import childProcess, { type ChildProcess } from 'node:child_process'
import { appendFileSync } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { join } from 'node:path'

/**
 * Loaded into every process of a test file with `--import`: writes each function that runs, once for each test. Redis
 * tells the functions in Lua in its log.
 */
const seen = new Map<string, Set<string>>()
const file = join(process.env.MUTANT_HITS!, String(process.pid))
const hit = (name: string) => {
  const test = process.env.MUTANT_TEST ?? ''
  const names = seen.get(test) ?? new Set()
  seen.set(test, names)
  if (names.has(name)) return
  names.add(name)
  appendFileSync(file, `${JSON.stringify([test, name])}\n`)
}
Object.assign(globalThis, { __hit: hit })

const { spawn } = childProcess
Object.assign(childProcess, {
  spawn: (...args: Parameters<typeof spawn>) => {
    const child: ChildProcess = spawn(...args)
    if (args[0].includes('redis-server')) child.stdout?.on('data', readLog())
    return child
  },
})
syncBuiltinESMExports()

function readLog(): (chunk: Buffer) => void {
  let rest = ''
  return (chunk) => {
    const lines = (rest + chunk).split('\n')
    rest = lines.pop()!
    for (const line of lines) {
      const name = / __hit (\S+)$/.exec(line)?.[1]
      if (name) hit(name)
    }
  }
}
