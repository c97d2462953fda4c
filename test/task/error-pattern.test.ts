import { expect, it } from 'vitest'
import { patternOf, textOfAll } from '../../src/task/error-pattern.ts'

it.each([
  ['no user 17 in 3 of 1,024.5 rows', 'no user # in # of # rows'],
  ['job 3f0a9c1b2d4e and 0190f5a2-7b3c-7def-8abc-0123456789ab are gone\n    at line 7', 'job … and … are gone'],
  ["No such customer: 'cus_9s6XKzkNRiz8i3'", "No such customer: 'cus_…'"],
  ['order 01JDZ8K3V5Q9X7M2N4P6R8T0WY is gone', 'order … is gone'],
  ['Float64Array and x509Certificate have 10MB', 'Float#Array and x#Certificate have #MB'],
  ['Request failed with status code 401', 'Request failed with status code 401'],
  ['HTTP 503 after 12 ms', 'HTTP 503 after # ms'],
  ['HTTP/1.1 503 after 12 ms', 'HTTP/1.1 503 after # ms'],
  ['{"statusCode":429,"retry":17}', '{"statusCode":429,"retry":#}'],
  ['read ECONNRESET, errno: -104', 'read ECONNRESET, errno: -104'],
  ['exit code 137 (signal 9) of process 4242', 'exit code 137 (signal 9) of process #'],
  ["status='failed', exit=2, code 123456", "status='failed', exit=2, code #"],
  ['HTTP/1.1 123456', 'HTTP/# #'],
  ['barcode 17, code 1.5', 'barcode #, code #'],
])('the pattern of %j is %j, and that of the pattern is the same', (error, pattern) => {
  expect(patternOf(error)).toBe(pattern)
  expect(patternOf(pattern)).toBe(pattern)
})

it('the text of all errors with a pattern contains their code', () => {
  const error = '7 calls: Request failed with status code 503 after 12 ms'
  expect(textOfAll(patternOf(error))).toBe('calls: Request failed with status code 503 after')
})
