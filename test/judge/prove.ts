import { writeFileSync } from 'node:fs'
import { MUTATIONS, placeOf } from '../mutations/mutations.ts'
import { Tree } from '../mutations/tree.ts'

/**
 * `npm run test:judge:prove -- [TEXT]`: breaks rules of the queue in a copy of the tree. The judge must find each one
 * from outside.
 */
const PROOFS: readonly [store: 'sqlite' | 'redis', broken: string][] = [
  ['sqlite', 'the limit holds'],
  ['sqlite', 'the limit of a group holds'],
  ['sqlite', 'a rate holds'],
  ['sqlite', 'a named limit holds'],
  ['sqlite', 'a named limit counts units'],
  ['sqlite', 'older goes first'],
  ['sqlite', 'a known key answers its task'],
  ['sqlite', 'a delayed task does not start early'],
  ['sqlite', 'a flow: all are waited for'],
  ['sqlite', 'a flow: an end is told'],
  ['sqlite', 'a change writes its event'],
  ['sqlite', 'a start writes its event'],
  ['sqlite', 'retries end'],
  ['sqlite', 'a lost lease costs no attempt'],
  ['sqlite', 'a permit comes back with its lease'],
  ['sqlite', 'a canceled task ends as canceled'],
  ['redis', 'the limit holds'],
  ['redis', 'the limit of a group holds'],
  ['redis', 'a rate holds'],
  ['redis', 'a named limit: it holds'],
  ['redis', 'a delayed task does not start early'],
  ['redis', 'a known key answers its task'],
  ['redis', 'a flow: all are waited for'],
  ['redis', 'a success writes its event'],
  ['redis', 'a permit comes back with its lease'],
]
const MINUTES = '0.3'
const RUN_MS_MAX = 300_000

const [only = ''] = process.argv.slice(2)
const tree = new Tree()
let missed = 0
try {
  for (const [store, broken] of PROOFS.filter(([, rule]) => rule.includes(only))) {
    const mutation = MUTATIONS.find((one) => one.store.toLowerCase() === store && one.rule === broken)
    if (!mutation) throw new Error(`there is no mutation "${broken}" of ${store}`)
    const { path, before, after } = placeOf(mutation, tree.folder)
    writeFileSync(path, after)
    const { code, text } = await tree.run(
      ['test/judge/main.ts', '--store', store, '--seed', '1', '--minutes', MINUTES],
      RUN_MS_MAX,
    )
    writeFileSync(path, before)
    const found = [...new Set([...text.matchAll(/^ {2}(\w+): /gm)].map(([, rule]) => rule))]
    const isFound = code !== 0 && found.length > 0
    if (!isFound) missed += 1
    console.info(
      [store.padEnd(6), broken.padEnd(42), isFound ? found.join(', ') : `MISSED ${text.slice(-500)}`].join('  '),
    )
  }
} finally {
  tree.remove()
}
process.exitCode = missed > 0 ? 1 : 0
