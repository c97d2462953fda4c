import { expect, it } from 'vitest'
import { ERRORS, type ErrorCode, invalidField, leaseLost, XQueueError } from '../../src/task/errors.ts'

it.each(Object.keys(ERRORS) as ErrorCode[])('the error %s has the status of its row', (code) => {
  expect(new XQueueError(code, 'no').status).toBe(ERRORS[code][0])
})

it('an error shows its details by name, and says where it has none', () => {
  const cause = new Error('below')
  const errors = [{ path: 'a', message: 'is wrong' }]
  const details = { errors, retry_after: 3, registered_types: ['t'], required_scope: 'admin' }
  const error = new XQueueError('forbidden', 'no', details, { cause })
  expect(error).toMatchObject({ name: 'XQueueError', code: 'forbidden', message: 'no', details, cause, errors })
  expect([error.retryAfter, error.registeredTypes, error.requiredScope]).toEqual([3, ['t'], 'admin'])
  const bare = new XQueueError('internal', 'no')
  expect([bare.errors, bare.retryAfter, bare.registeredTypes, bare.requiredScope]).toEqual([[], null, [], null])
})

it('an error of a field begins with its path', () => {
  expect(invalidField('a.b', 'is wrong')).toMatchObject({
    code: 'invalid_request',
    message: 'a.b is wrong',
    errors: [{ path: 'a.b', message: 'is wrong' }],
  })
})

it('a lost lease is named by its task, never by its token', () => {
  const id = '0190f5a2-7b3c-7def-8abc-0123456789ab'
  expect(leaseLost(`${id}.123`).message).toBe(`the lease of task "${id}" is no longer held: it expired or was settled`)
  expect(leaseLost(`${id}.123`, 'it was canceled').message).toMatch(/no longer held: it was canceled$/)
  expect(leaseLost('nonsense')).toMatchObject({ code: 'lease_lost', message: 'that lease is not one of this server' })
})
