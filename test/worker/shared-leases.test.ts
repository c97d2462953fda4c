import { expect, it } from 'vitest'
import { extend, HeldLease, isHeldOn, leasesOn, SharedLeases } from '../../src/worker/shared-leases.ts'

it('are seen by other threads from their addition to their removal, each in a slot of its own', () => {
  const leases = new SharedLeases(3)
  const added = ['a.1', 'b.2', 'c.3'].map((lease) => ({ slot: leases.add(lease, 100), lease }))
  expect(leasesOn(leases.memory)).toEqual(added)
  leases.remove(added[1]!.slot)
  expect(leasesOn(leases.memory)).toEqual([added[0], added[2]])
  // A shorter token in the place of a longer one.
  expect(leases.add('d', 100)).toBe(added[1]!.slot)
  expect(leasesOn(leases.memory).map(({ lease }) => lease)).toEqual(['a.1', 'd', 'c.3'])
  expect(() => leases.add('e.5', 100)).toThrow('the shared leases are full')
})

it('have tokens of at most 119 bytes', () => {
  const leases = new SharedLeases(3)
  const [longest, wide] = ['x'.repeat(119), `${'x'.repeat(117)}é`]
  leases.add(longest, 100)
  leases.add(wide, 100)
  expect(leasesOn(leases.memory).map(({ lease }) => lease)).toEqual([longest, wide])
  expect(() => leases.add('x'.repeat(120), 100)).toThrow('a lease token is longer than 119 bytes')
})

it('are held until their end, which a renewal moves', () => {
  const leases = new SharedLeases(2)
  const place = { slot: leases.add('a.1', 100.9), lease: 'a.1' }
  const other = { slot: leases.add('b.2', 500), lease: 'b.2' }
  const isHeld = (now: number, at = place) => isHeldOn(leases.memory, at, now)
  expect([isHeld(99), isHeld(100), isHeld(499, other), isHeld(500, other)]).toEqual([true, false, true, false])
  extend(leases.memory, place, 200)
  expect([isHeld(199), isHeld(200), isHeld(499, other)]).toEqual([true, false, true])
  leases.remove(place.slot)
  expect(isHeld(0)).toBe(false)
  // Another attempt has the slot now: a late renewal of the first one does not move its end.
  leases.add('c.3', 300)
  extend(leases.memory, place, 900)
  const next = { ...place, lease: 'c.3' }
  expect([isHeld(299, next), isHeld(300, next), isHeld(0)]).toEqual([true, false, false])
})

it('are shown to handlers by their fence, without the token', () => {
  const leases = new SharedLeases(1)
  const hold = { fence: 7, memory: leases.memory, place: { slot: leases.add('a.1', 100), lease: 'a.1' } }
  let now = 99
  const lease = new HeldLease(hold, () => now)
  expect([lease.fence, lease.isHeld(), HeldLease.sharedBy(lease)]).toEqual([7, true, hold])
  expect(JSON.stringify(lease)).not.toContain('a.1')
  now = 100
  expect(lease.isHeld()).toBe(false)
})
