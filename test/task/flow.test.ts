import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import {
  canceledBecause,
  canceledBecauseGone,
  effectOf,
  FAILURE_POLICIES,
  ON_FAILURE,
  ON_FAILURE_SUMMARY,
  predecessorIn,
  withoutPredecessor,
} from '../../src/task/flow.ts'

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

  it('are described in one sentence', () => {
    expect(ON_FAILURE_SUMMARY).toBe('cancel the task (default), run it anyway, or wait for a retry')
    const effects = ON_FAILURE.map((policy) => [policy, effectOf('timeout', policy)])
    expect(Object.fromEntries(effects)).toEqual({ cancel: 'cancels', run: 'counts', wait: 'waits' })
  })

  it('name the predecessor in the error of a task that they cancel', () => {
    for (const error of [canceledBecause('a', 'failed'), canceledBecauseGone('a')]) {
      expect(predecessorIn(error)).toBe('a')
      expect(withoutPredecessor(error)).toMatch(/^a task, which it waits for, ended /)
    }
    expect([predecessorIn(null), predecessorIn('task a failed')]).toEqual([null, null])
    expect([withoutPredecessor(null), withoutPredecessor('task a failed')]).toEqual([null, 'task a failed'])
  })

  it('have a text in both languages of the dashboard', () => {
    const words = readFileSync(new URL('../../dashboard/src/words.ts', import.meta.url), 'utf8')
    const named = [...words.matchAll(/^ {2}on_failure_(\w+): '/gm)].map(([, name]) => name)
    expect(named).toEqual([...ON_FAILURE, ...ON_FAILURE])
  })
})
