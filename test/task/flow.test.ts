import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { FAILURE_POLICIES, ON_FAILURE } from '../../src/task/flow.ts'

describe('failure policies', () => {
  it('have unique letters, which stored records use', () => {
    const letters = Object.values(FAILURE_POLICIES).map(({ letter }) => letter)
    expect(new Set(letters).size).toBe(letters.length)
    for (const letter of letters) expect(letter).toMatch(/^[a-z]$/)
    expect(FAILURE_POLICIES).toMatchObject({ cancel: { letter: 'c' }, run: { letter: 'r' }, wait: { letter: 'w' } })
  })

  it('all let a success count', () => {
    for (const { effects } of Object.values(FAILURE_POLICIES)) expect(effects.success).toBe('counts')
  })

  it('have a text in both languages of the dashboard', () => {
    const words = readFileSync(new URL('../../dashboard/src/words.ts', import.meta.url), 'utf8')
    const named = [...words.matchAll(/^ {2}on_failure_(\w+): '/gm)].map(([, name]) => name)
    expect(named).toEqual([...ON_FAILURE, ...ON_FAILURE])
  })
})
