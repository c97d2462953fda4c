import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { expect, it } from 'vitest'
import { openQueue } from '../../src/queue/open.ts'

it('finds the open predecessors of a task without reading the results of the others', async () => {
  const file = join(mkdtempSync(join(tmpdir(), 'xqueue-plan-')), 'x.db')
  await (await openQueue(`sqlite:${file}`)).close()
  const sql = readFileSync(join(import.meta.dirname, '../../src/store/sqlite/flows/flows.sql'), 'utf8')
  const statement = /-- name: awaitedBy\n([^;]*;)/.exec(sql)![1]!
  const db = new DatabaseSync(file)
  const plan = db.prepare(`EXPLAIN QUERY PLAN ${statement}`).all(1, 1) as { detail: string }[]
  db.close()
  rmSync(dirname(file), { recursive: true })
  expect(plan.map(({ detail }) => detail).join('; ')).toMatch(/USING INDEX predecessors_waiting/)
})
