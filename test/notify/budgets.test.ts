import { beforeEach, expect, it } from 'vitest'
import { BUDGETS, Budgets } from '../../src/notify/budgets.ts'

const { burst, perSecond, wildcard } = BUDGETS.subscriptions
let now = 0
let filters: Map<string, number>
let budgets: Budgets<string>
beforeEach(() => {
  now = 0
  filters = new Map()
  budgets = new Budgets(
    (client) => filters.get(client) ?? 0,
    () => now,
  )
})

it('counts the connections of each principal', () => {
  const most = BUDGETS.connections.token
  for (let n = 0; n < most; n++) expect(budgets.connect('token:a', 'token', `c${n}`)).toBe(true)
  expect(budgets.connect('token:a', 'token', 'more')).toBe(false)
  expect(budgets.connect('token:b', 'token', 'other')).toBe(true)
  budgets.leave('token:a', 'c0')
  expect(budgets.connect('token:a', 'token', 'more')).toBe(true)
})

it('allows a burst of subscriptions and a number per second, where a wildcard counts as ten', () => {
  const allowed = (filter: string, tries: number) =>
    Array.from({ length: tries }, () => budgets.subscribe('k', filter)).filter((answer) => answer === 'allowed').length
  expect(allowed('xqueue/tasks/x', burst + 50)).toBe(burst)
  now = 1_000
  expect(allowed('xqueue/#', 50)).toBe(perSecond / wildcard)
  expect(budgets.subscribe('other', 'xqueue/#')).toBe('allowed')
})

it('disconnects a principal that continues, and bounds the filters of all its connections', () => {
  filters.set('c1', BUDGETS.filters)
  budgets.connect('k', 'key', 'c1')
  const answers = Array.from({ length: BUDGETS.refusals + 1 }, () => budgets.subscribe('k', 'xqueue/tasks/x'))
  expect(answers.at(0)).toBe('refused')
  expect(answers.at(-1)).toBe('disconnect')
})
