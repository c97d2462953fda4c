import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { reference } from '../../scripts/reference.ts'

it('docs/reference/ is what the program and the server say of themselves: else run `npm run reference`', async () => {
  for (const [name, text] of await reference()) {
    expect(readFileSync(join(import.meta.dirname, '../../docs/reference', name), 'utf8'), name).toBe(text)
  }
})
