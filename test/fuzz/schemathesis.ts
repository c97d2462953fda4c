import { join } from 'node:path'
import { python } from '../fixtures/python.ts'

/** Where it is. A series in which each release finds what the one before found: newer ones are taken within it only. */
export function schemathesis(): string | null {
  const programs = python('schemathesis==4.32.*')
  return programs && join(programs, 'schemathesis')
}
