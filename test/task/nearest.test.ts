import { expect, it } from 'vitest'
import { nearest } from '../../src/task/nearest.ts'

it('names what differs in up to two letters, the nearest first', () => {
  expect(nearest('redriect', ['direct', 'redirect', 'redirects', 'reject'])).toEqual(['redirect'])
  expect(nearest('retres', ['retries', 'retry', 'entries'])).toEqual(['retries', 'retry'])
})

it('compares without capitals, and also by the last part of a path', () => {
  expect(nearest('EUROPE/PARIS', ['Europe/Paris', 'Europe/Berlin'])).toEqual(['Europe/Paris'])
  expect(nearest('Germany/Berlin', ['Europe/Paris', 'Europe/Berlin'])).toEqual(['Europe/Berlin'])
})

it('names nothing of which half differs', () => {
  expect(nearest('ab', ['ac', 'bb'])).toEqual([])
  expect(nearest('abcd', ['abdc'])).toEqual([])
  expect(nearest('abcde', ['abdce'])).toEqual(['abdce'])
})

it('names few of many', () => {
  const names = Array.from({ length: 20 }, (_, index) => `name-${String.fromCharCode(97 + index)}`)
  expect(nearest('name-', names)).toHaveLength(3)
})
