import { describe, expect, it } from 'vitest'
import {
  familyOf,
  groupOfLane,
  hasUnits,
  laneOf,
  limitsOfLane,
  NO_USES,
  nameOfGroupLimit,
  typeOfGroupLimit,
  USES_LIMITS,
  unitsAboveMax,
  usageError,
  usesErrors,
  usesLimits,
} from '../../src/task/uses.ts'

const { namesMax, unitsMax } = USES_LIMITS
const many = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, at) => [`limit-${at}`, 1]))
const NO_OBJECT = ['text', 1, null, undefined, [1]]

describe('the units that a task uses', () => {
  it.each([{}, { gpu: 1 }, { gpu: unitsMax }, { 'tenant/acme': 2 }, { ['x'.repeat(200)]: 1 }, many(namesMax)])(
    'may be %j',
    (uses) => expect(usesErrors(uses, 'uses')).toEqual([]),
  )

  it.each(NO_OBJECT)('are no %j', (uses) => {
    const message = 'must be an object of limits and units, such as {"gpu": 1}'
    expect(usesErrors(uses, 'tasks[3].uses')).toEqual([{ path: 'tasks[3].uses', message }])
  })

  it.each([0, -1, 1.5, unitsMax + 1, '1', null])('are not %j of a limit', (units) => {
    const message = `is ${JSON.stringify(units)}: it must be an integer from 1 to ${unitsMax}`
    expect(usesErrors({ fine: 1, gpu: units }, 'uses')).toEqual([{ path: 'uses.gpu', message }])
  })

  it.each(['', '.', '..', 'type:a', 'group:a/b', 'a\n', 'tenant/*', 'x'.repeat(201)])(
    'are not of a limit %j',
    (name) => {
      const message = expect.stringContaining('is not the name of a limit that a task can use')
      expect(usesErrors({ [name]: 1 }, 'uses')).toEqual([{ path: `uses.${name}`, message }])
    },
  )

  it('are not of a limit whose name is not Unicode', () => {
    expect(usesErrors({ 'a\ud83d': 1 }, 'uses')).toMatchObject([{ path: 'uses.a\ufffd' }])
  })

  it('are of few limits', () => {
    const message = `has ${namesMax + 1} limits, the maximum is ${namesMax}`
    expect(usesErrors(many(namesMax + 1), 'uses')).toEqual([{ path: 'uses', message }])
  })

  it('may be as many as the maximum of a limit, and not more', () => {
    const limits = { gpu: { max: 2 }, free: { max: null }, unknown: null }
    expect(unitsAboveMax({ gpu: 2, free: 9, unknown: 9, other: 9 }, limits)).toBeNull()
    expect(unitsAboveMax({ free: 9, gpu: 3 }, limits)).toEqual({ name: 'gpu', units: 3, max: 2 })
    expect(unitsAboveMax({ gpu: 1 }, { gpu: { max: 0 } })).toEqual({ name: 'gpu', units: 1, max: 0 })
  })
})

describe('the units that an attempt has used in fact', () => {
  it.each([{}, { tokens: 0 }, { tokens: unitsMax }, many(namesMax)])('may be %j', (usage) =>
    expect(usageError(usage)).toBeNull(),
  )

  it.each(NO_OBJECT)('are no %j', (usage) => {
    const message = 'must be an object of limits and units, such as {"tokens": 900}'
    expect(usageError(usage)).toEqual({ path: 'usage', message })
  })

  it.each([-1, 0.5, unitsMax + 1, '1', null])('are not %j of a limit', (units) => {
    const message = `is ${JSON.stringify(units)}: it must be an integer from 0 to ${unitsMax}`
    expect(usageError({ fine: 1, tokens: units })).toEqual({ path: 'usage.tokens', message })
  })

  it('are of few limits', () => {
    expect(usageError(many(namesMax + 1))).toEqual({ path: 'usage', message: `has more than ${namesMax} limits` })
  })
})

describe('the lane of a task', () => {
  it.each([
    [null, NO_USES, ''],
    ['a', NO_USES, 'a'],
    [null, {}, ''],
    [null, { gpu: 1 }, '\u001fgpu'],
    ['a', { gpu: 2, cpu: 1 }, 'a\u001fcpu\u001fgpu'],
  ])('of the group %j that uses %j is %j', (group, uses, lane) => {
    // The second time, the end of the lane is known.
    for (const _ of [1, 2]) expect(laneOf(group, uses)).toBe(lane)
    expect(groupOfLane(lane)).toBe(group ?? '')
    expect(limitsOfLane(lane)).toEqual(Object.keys(uses).sort())
    expect(usesLimits(lane)).toBe(Object.keys(uses).length > 0)
  })
})

describe('the name of a limit', () => {
  it.each([
    ['gpu', null, true],
    ['tenant/acme', 'tenant/*', true],
    ['tenant/a/b', 'tenant/*', true],
    ['tenant/a/*', 'tenant/*', true],
    ['tenant/*', null, false],
    ['*', null, true],
    ['group:a/b', 'group:a/*', false],
  ])('%j has the settings of %j if it has none, and units: %j', (name, family, units) => {
    expect([familyOf(name), hasUnits(name)]).toEqual([family, units])
  })

  it('of a group contains its type', () => {
    const name = nameOfGroupLimit('mail.send', 'acme/eu')
    expect([name, typeOfGroupLimit(name)]).toEqual(['group:mail.send/acme/eu', 'mail.send'])
  })
})
