import { expect, it } from 'vitest'
import { completeSpec, sameRequest } from '../../src/task/task.ts'
import { parseTraceparent, withTrace } from '../../src/task/trace-context.ts'

const IDS = '0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331'

it('reads every valid context of the standard, also of later versions', () => {
  const parent = { traceId: IDS.slice(0, 32), spanId: IDS.slice(33), traceFlags: 1 }
  expect(parseTraceparent(`00-${IDS}-01`)).toEqual(parent)
  expect(parseTraceparent(`cc-${IDS}-01-more`)).toEqual(parent)
})

it('ignores an invalid context', () => {
  const invalid = [
    undefined,
    '',
    `ff-${IDS}-01`,
    `00-${IDS}-01-more`,
    `00-${IDS.toUpperCase()}-01`,
    `00-${'0'.repeat(32)}-b7ad6b7169203331-01`,
    `00-${'a'.repeat(32)}-${'0'.repeat(16)}-01`,
    `00-${IDS}-01, 00-${IDS}-01`,
  ]
  expect(invalid.map(parseTraceparent)).toEqual(invalid.map(() => null))
  expect(invalid.map((traceparent) => withTrace({ a: 'b' }, { traceparent }))).toEqual(invalid.map(() => ({ a: 'b' })))
})

it('stores the context in the tags, unless the caller has set one', () => {
  const traceparent = `00-${IDS}-01`
  expect(withTrace({ a: 'b' }, { traceparent, tracestate: 'x=1' })).toEqual({ a: 'b', traceparent, tracestate: 'x=1' })
  expect(withTrace({}, { traceparent, tracestate: `x=${'1'.repeat(511)}` })).toEqual({ traceparent })
  expect(withTrace({ tracestate: 'of=another' }, { traceparent })).toEqual({ traceparent })
  const own = { traceparent: `00-${IDS}-00` }
  expect(withTrace(own, { traceparent, tracestate: 'x=1' })).toBe(own)
})

it('is ignored when requests are compared', () => {
  const spec = completeSpec({ type: 'a', tags: { order: '7' } })
  const traced = { ...spec, tags: withTrace(spec.tags, { traceparent: `00-${IDS}-01`, tracestate: 'x=1' }) }
  expect(sameRequest(traced)).toBe(sameRequest(spec))
  expect(sameRequest({ ...spec, tags: { order: '8' } })).not.toBe(sameRequest(spec))
})
