import { expect, it } from 'vitest'
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
