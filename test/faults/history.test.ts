import { describe, expect, it } from 'vitest'
import type { LimitSettings } from '../../src/queue/queue.ts'
import type { TaskEvent } from '../../src/task/event.ts'
import { check, type History, type Line, resultOf } from './history.ts'

let position = 0
const event = (taskId: string, status: TaskEvent['status'], more: Partial<TaskEvent> = {}): TaskEvent => ({
  id: String(++position),
  kind: 'status',
  taskId,
  type: 't',
  status,
  attempts: 0,
  progress: null,
  result: null,
  error: null,
  timeoutReason: null,
  workerId: null,
  at: 1_000 + position,
  ...more,
})
const settled = (lease: string, accepted: boolean): Line => ({
  what: 'settled',
  lease,
  kind: 'success',
  accepted,
  status: accepted ? 'success' : null,
  at: 2_000,
})

/** Two tasks: `a` loses its first lease, `b` simply succeeds. */
function history(): History & { events: TaskEvent[]; lines: Line[] } {
  const events = [
    event('a', 'pending'),
    event('b', 'pending'),
    event('a', 'processing'),
    event('a', 'pending'),
    event('b', 'processing'),
    event('b', 'success', { result: resultOf('b.1') }),
    event('a', 'processing'),
    event('a', 'success', { result: resultOf('a.2') }),
  ]
  const lines: Line[] = [
    { what: 'accepted', id: 'a', at: 1_000 },
    { what: 'accepted', id: 'b', at: 1_000 },
    { what: 'started', lease: 'a.1', at: 1_000 },
    settled('a.1', false),
    settled('b.1', true),
    settled('a.2', true),
  ]
  return { events, lines, limits: { t: 1 } }
}

/** The rules that a history breaks once something in it was changed. */
function broken(change: (history: History & { events: TaskEvent[]; lines: Line[] }) => unknown): string[] {
  const changed = history()
  change(changed)
  return [...new Set(check(changed).map(({ rule }) => rule))]
}

describe('the history checker', () => {
  it('reports nothing about a run that kept the rules', () => {
    expect(check(history())).toEqual([])
  })

  it('reports a lost acknowledged task', () => {
    expect(broken(({ lines }) => lines.push({ what: 'accepted', id: 'c', at: 1_500 }))).toEqual(['lost'])
    const within = (from: number, to: number) => ({ ...history(), mayLose: [{ from, to }] })
    const lost = (told: History) => check({ ...told, lines: [...told.lines, { what: 'accepted', id: 'c', at: 1_500 }] })
    expect(lost(within(1_400, 1_600))).toEqual([])
    expect(lost(within(1_600, 1_700))).toHaveLength(1)
  })

  it('reports a lost accepted result', () => {
    expect(broken(({ events }) => events.splice(7, 1, event('a', 'failed')))).toEqual(['lost'])
  })

  it('reports a task that did not finish', () => {
    expect(broken(({ events, lines }) => [events.pop(), lines.pop()])).toEqual(['not_finished'])
  })

  it('reports a task that finished twice', () => {
    expect(broken(({ events }) => events.push(event('b', 'failed')))).toEqual(['finished_twice'])
  })

  it('reports an invalid state transition', () => {
    expect(broken(({ events }) => events.splice(0, 1))).toContain('illegal_move')
    expect(broken(({ events }) => events.push(event('b', 'processing'), event('b', 'failed')))).toContain(
      'illegal_move',
    )
  })

  it('reports one lease more than the limit', () => {
    expect(broken(({ events }) => events.push(...events.splice(5, 1)))).toEqual(['over_limit'])
  })

  it('reports an outcome of a lost lease that took effect', () => {
    const byTheFirst = ({ events, lines }: { events: TaskEvent[]; lines: Line[] }) => {
      Object.assign(events[7]!, { result: resultOf('a.1') })
      lines.pop()
    }
    expect(broken(byTheFirst)).toEqual(['fence'])
  })

  it('reports a refused outcome that took effect, unless an earlier answer was lost', () => {
    const refused = (changed: { lines: Line[] }) => changed.lines.splice(4, 1, settled('b.1', false))
    expect(broken(refused)).toEqual(['fence'])
    const unsure: Line = { what: 'unsure', lease: 'b.1', at: 1_999 }
    expect(broken((changed) => [refused(changed), changed.lines.push(unsure)])).toEqual([])
  })

  it('reports a handler that ran without a lease', () => {
    expect(broken(({ lines }) => lines.push({ what: 'started', lease: 'b.2', at: 1 }))).toEqual(['untold_lease'])
  })

  it('reports events of a task out of order, and two with one position', () => {
    expect(broken(({ events }) => Object.assign(events[7]!, { at: 1 }))).toEqual(['order'])
    expect(broken(({ events }) => Object.assign(events[7]!, { id: events[6]!.id }))).toEqual(['order'])
  })

  it('reports one key for two tasks', () => {
    const twice = (ids: string[]) => ids.map((id) => ({ what: 'accepted', id, at: 1_000, key: 'k' }) as const)
    expect(broken(({ lines }) => lines.push(...twice(['a', 'a'])))).toEqual([])
    expect(broken(({ lines }) => lines.push(...twice(['a', 'b'])))).toEqual(['key'])
  })

  it('reports one lease more than the limit of a group', () => {
    const more = (groups: [string, string][]) => ({ ...history(), groupLimits: { t: 1 }, groupOf: new Map(groups) })
    const both = more([
      ['a', 'g'],
      ['b', 'g'],
    ])
    expect(check(both)).toEqual([])
    const changed = { ...both, limits: {}, events: [...both.events] }
    changed.events.push(...changed.events.splice(5, 1))
    expect(check(changed).map(({ rule }) => rule)).toEqual(['over_group_limit'])
  })

  it('reports more units of a named limit than it allows at once, or in a window', () => {
    const usesOf = new Map([
      ['a', { 'k/1': 2 }],
      ['b', { 'k/1': 1 }],
    ])
    const rules = (limit: LimitSettings, more: Partial<History> = {}) =>
      check({ ...history(), usesOf, namedLimits: { 'k/*': limit }, ...more }).map(({ rule }) => rule)
    const { events } = history()
    const overlapping = [...events, ...events.slice(5, 6)].filter((_, index) => index !== 5)
    expect(rules({ max: 2, rate: null })).toEqual([])
    expect(rules({ max: 2, rate: null }, { events: overlapping, limits: {} })).toContain('over_named_limit')
    expect(rules({ max: 3, rate: null }, { events: overlapping, limits: {} })).not.toContain('over_named_limit')
    expect(rules({ max: null, rate: { max: 2, perMs: 1_000 } })).toContain('over_named_rate')
  })

  it('reports starts beyond a rate, and a success after the deadline', () => {
    const rules = (more: Partial<History>) => check({ ...history(), ...more }).map(({ rule }) => rule)
    expect(rules({ rates: { t: { max: 2, perMs: 4 } } })).toEqual([])
    expect(rules({ rates: { t: { max: 2, perMs: 5 } } })).toEqual(['over_rate'])
    expect(rules({ processTimeouts: { t: 2 } })).toEqual([])
    expect(rules({ processTimeouts: { t: 1 } })).toEqual(['too_late', 'too_late'])
  })

  it('reports a task that started before its predecessor ended, or without its success', () => {
    const waits = (id: string, after: string[], onFailure: 'cancel' | 'run'): Line => {
      return { what: 'accepted', id, at: 1_000, after, onFailure }
    }
    const failed = (id: string) => [event(id, 'pending'), event(id, 'processing'), event(id, 'failed')]
    expect(
      broken(({ events, lines }) => [events.push(...failed('c')), lines.push(waits('c', ['a', 'b'], 'cancel'))]),
    ).toEqual([])
    expect(broken(({ lines }) => lines.push(waits('a', ['b'], 'run')))).toEqual(['too_early'])
    const onFailure = (way: 'cancel' | 'run') =>
      broken(({ events, lines }) => [events.push(...failed('c'), ...failed('d')), lines.push(waits('d', ['c'], way))])
    expect(onFailure('run')).toEqual([])
    expect(onFailure('cancel')).toEqual(['too_early'])
  })
})
