import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { MUTATIONS, type Mutation, placeOf } from './mutations.ts'
import { Tree } from './tree.ts'

/**
 * `npm run test:mutations -- [--store SQLite|Redis] [--only TEXT]`: breaks each rule in a copy of the tree and runs
 * the contract there, which must fail. For SQLite the simulation runs as well, to tell whether it sees it too.
 */
const CONTRACTS = {
  SQLite: [
    'test/queue-contract/sqlite.test.ts',
    'test/store-contract/sqlite.test.ts',
    'test/store/leaks.test.ts',
    ...['-t', '^SQLite(?! on a file)'],
  ],
  Redis: [
    'test/queue-contract/redis.test.ts',
    'test/store-contract/redis.test.ts',
    ...['test/store/leaks.test.ts', 'test/store/type-count.test.ts'],
    ...['wake', 'restore', 'events', 'partition-messages', 'maintainer', 'limits', 'rest'].map(
      (of) => `test/store/redis-${of}.test.ts`,
    ),
  ],
}
const SIMULATED_SEEDS = 150
/** A broken store may hang: the time-out of a test catches that, and this one is longer. */
const RUN_MS_MAX = 180_000

interface Verdict {
  failed: string | null
  passed: number
}

const { values } = parseArgs({ options: { store: { type: 'string' }, only: { type: 'string', default: '' } } })
const chosen = MUTATIONS.filter(({ store, rule }) => store === (values.store ?? store) && rule.includes(values.only))
const tree = new Tree()
try {
  await refuseUnlessWhole()
  const missed = []
  for (const mutation of chosen) if (!(await isCaught(mutation))) missed.push(mutation)
  console.info(`${chosen.length - missed.length} of ${chosen.length} mutations are caught`)
  process.exitCode = missed.length > 0 ? 1 : 0
} finally {
  tree.remove()
}

/** Without a mutation everything must pass, or a failure would show nothing. */
async function refuseUnlessWhole(): Promise<void> {
  for (const store of new Set(chosen.map(({ store }) => store))) {
    const { failed, passed } = await contract(store)
    if (failed !== null || passed === 0) throw new Error(`the contract fails on ${store} as it is: ${failed}`)
  }
}

async function isCaught(mutation: Mutation): Promise<boolean> {
  const { store, rule } = mutation
  const { path, before, after } = placeOf(mutation, tree.folder)
  writeFileSync(path, after)
  try {
    const { failed } = await contract(store)
    const simulated = store === 'SQLite' ? await simulation() : ''
    console.info(
      [
        store.padEnd(6),
        rule.padEnd(42),
        failed === null ? 'MISSED' : 'caught',
        simulated.padEnd(20),
        failed ?? '',
      ].join('  '),
    )
    return failed !== null
  } finally {
    writeFileSync(path, before)
  }
}

async function contract(store: Mutation['store']): Promise<Verdict> {
  const verdict = await tree.test(CONTRACTS[store], RUN_MS_MAX)
  return verdict ?? { failed: `no end within ${RUN_MS_MAX / 1_000} s`, passed: 0 }
}

async function simulation(): Promise<string> {
  const args = ['test/simulation/main.ts', '--seed', '1', '--seeds', String(SIMULATED_SEEDS)]
  const output = await tree.run(args, RUN_MS_MAX)
  if (output.code === 0) return ''
  const rule = /^ {2}(\w+): /m.exec(output.text)?.[1]
  return `simulation: ${rule ?? 'crash'}`
}
