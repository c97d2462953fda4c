import { expect, it } from 'vitest'
import { tagOf, useOf } from '../../src/cli/submit.ts'
import { progressText } from '../../src/cli/task-page.ts'
import { configOfOptions } from '../../src/config/config.ts'
import { openQueue } from '../../src/queue/open.ts'
import { leaseLost } from '../../src/task/errors.ts'

it('a setting that is no duration is named once', () => {
  const read = () => configOfOptions({ 'retention-age': 'bad' }, 'a test')
  expect(read).toThrow('retention-age is "bad" (from a test): "bad" is not a duration: use seconds')
})

it('an unknown engine is named like a URL', async () => {
  await expect(openQueue('mysql://host')).rejects.toThrow('no engine for mysql:// URLs: there are sqlite:')
})

it('a lease without a task is named as such', () => {
  expect(leaseLost('abc').message).toBe('that lease is not one of this server')
  expect(leaseLost('a-b.c').message).toMatch(/^the lease of task "a-b" is no longer held: /)
})

it('a percentage has at most one decimal place', () => {
  expect(progressText(100 / 6)).toBe('16.7 %')
  expect(progressText({ percent: 200 / 3, message: 'page 2 of 3' })).toBe('66.7 % page 2 of 3')
  expect(progressText(50)).toBe('50 %')
})

it('tags and units of limits are written with a colon or an equals sign', () => {
  for (const tag of ['customer:42', 'customer=42']) expect(tagOf(tag)).toEqual(['customer', '42'])
  expect(tagOf('url:http://host/?a=b')).toEqual(['url', 'http://host/?a=b'])
  for (const use of ['gpu=2', 'gpu:2']) expect(useOf(use)).toEqual(['gpu', 2])
  expect(useOf('gpu:a100=2')).toEqual(['gpu:a100', 2])
})
