import { join } from 'node:path'
import { python } from '../fixtures/python.ts'

/** Its path. The version is a series whose releases find the same faults; only releases within it are accepted. */
export function schemathesis(): string | null {
  const programs = python('schemathesis==4.32.*')
  return programs && join(programs, 'schemathesis')
}
