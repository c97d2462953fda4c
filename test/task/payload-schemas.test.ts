import { expect, it } from 'vitest'
import { PayloadSchemas } from '../../src/task/payload-schemas.ts'

const schemas = new PayloadSchemas()
const ORDER = {
  type: 'object',
  required: ['to'],
  properties: { to: { type: 'string' }, lines: { type: 'array', items: { type: 'number' } } },
}

it.each<[unknown, unknown, string[]]>([
  [null, { to: 7 }, []],
  [ORDER, { to: 'x', lines: [1] }, []],
  [
    ORDER,
    { to: 7, lines: ['a', 2, 'b'] },
    ['payload.to must be string', 'payload.lines.0 must be number', 'payload.lines.2 must be number'],
  ],
  [ORDER, {}, ["payload must have required property 'to'"]],
  [false, 1, ['payload boolean schema is false']],
  // The worker validates with what this validator does not support.
  [{ type: 'no type' }, 1, []],
  [{ $ref: '#' }, 1, []],
  [{ type: 'string', format: 'unknown' }, 'x', []],
])('by the schema %j, the payload %j has the errors %j', (schema, payload, errors) => {
  // The second time, the schema is compiled.
  for (const _ of [1, 2]) {
    const found = schemas.check(schema as never, payload as never)
    expect(found.map(({ path, message }) => `${path} ${message}`).sort()).toEqual([...errors].sort())
  }
})
