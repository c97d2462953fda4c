import { expect, it } from 'vitest'
import { TransientMap } from '../../src/task/transient-map.ts'

const one = { name: 'one' }
const two = { name: 'two' }
const three = { name: 'three' }

function mapOf(entries: Record<string, object>): TransientMap<object> {
  const map = new TransientMap<object>()
  for (const [key, value] of Object.entries(entries)) map.set(key, value)
  return map
}

it('returns the value of a key until it is taken', () => {
  const map = mapOf({ a: one, b: two })
  expect([map.size, map.get('a'), map.get('b'), map.get('c')]).toEqual([2, one, two, undefined])
  expect(map.take('a')).toBe(one)
  expect([map.size, map.get('a'), map.take('a'), map.get('b')]).toEqual([1, undefined, undefined, two])
})

it('replaces the value of a key', () => {
  const map = mapOf({ a: one })
  map.set('a', two)
  expect([map.size, map.take('a'), map.size]).toEqual([1, two, 0])
})

it('never gives the place of a value to another key while it is there', () => {
  const map = mapOf({ a: one, b: two })
  map.take('a')
  map.take('a')
  map.set('c', three)
  map.set('d', one)
  expect([map.get('b'), map.get('c'), map.get('d')]).toEqual([two, three, one])
  expect(map.values()).toEqual([two, three, one])
})

it('lists its values as they are now, also if they are taken meanwhile', () => {
  const map = mapOf({ a: one, b: two, c: three })
  const seen: object[] = []
  for (const value of map.values()) {
    seen.push(value)
    map.take('a')
    map.take('b')
  }
  expect(seen).toEqual([one, two, three])
  expect(map.values()).toEqual([three])
})

it('is empty after it was cleared, and can be filled again', () => {
  const map = mapOf({ a: one, b: two })
  map.take('a')
  map.clear()
  expect([map.size, map.get('b'), map.values()]).toEqual([0, undefined, []])
  map.set('c', three)
  map.set('d', two)
  expect([map.get('c'), map.get('d'), map.get('b')]).toEqual([three, two, undefined])
})

it('keeps each value under its key while others come and go', () => {
  const map = new TransientMap<{ index: number }>()
  for (let index = 0; index < 10_000; index++) {
    map.set(`${index}`, { index })
    if (index >= 10) expect(map.take(`${index - 10}`)).toEqual({ index: index - 10 })
  }
  expect(map.values().map(({ index }) => index)).toEqual([9990, 9991, 9992, 9993, 9994, 9995, 9996, 9997, 9998, 9999])
})
