import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Tree } from '../mutations/tree.ts'
import type { Coverage, Covering } from './coverage.ts'
import { type Mutant, mutated } from './mutants.ts'
import { type Answer, type Request, Runner } from './runner.ts'

/** Most mutants are noticed by the first tests. Then come others, up to a sum. */
const SUMS_MS = [4_000, 20_000, 60_000]
/** Beyond this and a multiple of what the tests take otherwise, they count as tests that never end. */
const MS_MAX = 20_000
const TIMES_MAX = 5
/** A file with all of its tests, which need each other. */
const WHOLE_MS_MAX = 300_000

/** A copy of the tree with one mutant at a time, and a process that runs tests on it. */
export class Lane {
  readonly tree = new Tree()
  readonly #runner = new Runner(this.tree.folder)
  readonly #coverage: Pick<Coverage, 'testsOf'>
  /** Whether a test passes alone on the sources as they are. Shared by all lanes. */
  readonly #passesAlone: Map<string, boolean>
  #lastFile: string | null = null
  /** By function: tests that have noticed another mutant of it. */
  readonly #noticing = new Map<string, Covering[]>()

  constructor(coverage: Pick<Coverage, 'testsOf'>, passesAlone: Map<string, boolean>) {
    this.#coverage = coverage
    this.#passesAlone = passesAlone
  }

  /** How a mutant is noticed, or null if no test notices it. */
  async notice(mutant: Mutant): Promise<string | null> {
    const place = `${mutant.file}#${mutant.within}`
    const earlier = this.#noticing.get(place) ?? []
    const covering = [
      ...earlier,
      ...this.#coverage.testsOf(mutant, this.#textOf(mutant)).filter((test) => !earlier.includes(test)),
    ]
    for (const batch of batchesOf(covering)) {
      const noticed = await this.#run(mutant, batch)
      if (noticed === null) continue
      if (typeof noticed === 'string') return noticed
      this.#noticing.set(place, [noticed, ...earlier.filter((test) => test !== noticed)].slice(0, 5))
      return noticed.name
    }
    return null
  }

  stop(): void {
    this.#runner.stop()
    this.tree.remove()
  }

  /** The test that fails with a mutant only, another sign of the mutant as text, or null. */
  async #run(mutant: Mutant, batch: readonly Covering[]): Promise<Covering | string | null> {
    const files = [...new Set(batch.map(({ file }) => file))]
    const ms = batch.reduce((sum, test) => sum + test.ms + test.fileMs / batch.length, 0)
    const msMax = Math.round(MS_MAX + TIMES_MAX * ms)
    const answer = await this.#runWith(mutant, { files, names: batch.map(({ name }) => name) }, msMax)
    if (!answer) return 'the tests do not end'
    if (!answer.isBroken) return null
    const failed = answer.tests.find(({ state }) => state === 'failed')
    const test = batch.find(({ file, name }) => file === failed?.file && name === failed.name)
    if (!test) return 'a file could not be loaded, or an error was caught by no one'
    if (await this.#isFine(test)) return test
    const whole = await this.#runWith(mutant, { files: [test.file] }, WHOLE_MS_MAX)
    return whole && !whole.isBroken ? null : `${test.file} fails as a whole`
  }

  #textOf({ file }: Pick<Mutant, 'file'>): string {
    return readFileSync(join(this.tree.folder, file), 'utf8')
  }

  async #isFine(test: Covering): Promise<boolean> {
    const key = `${test.file} ${test.name}`
    const known = this.#passesAlone.get(key)
    if (known !== undefined) return known
    const changed = [this.#lastFile!]
    const answer = await this.#runner.run({ changed, files: [test.file], names: [test.name] }, WHOLE_MS_MAX)
    const isFine = answer !== null && !answer.isBroken
    this.#passesAlone.set(key, isFine)
    return isFine
  }

  async #runWith(
    { file, ...mutant }: Mutant,
    request: Omit<Request, 'changed'>,
    msMax: number,
  ): Promise<Answer | null> {
    const path = join(this.tree.folder, file)
    const text = this.#textOf({ file })
    writeFileSync(path, mutated(text, { file, ...mutant }))
    try {
      return await this.#runner.run({ changed: [this.#lastFile ?? file, file], ...request }, msMax)
    } finally {
      this.#lastFile = file
      writeFileSync(path, text)
    }
  }
}

/** In each batch, a test whose file has run anyway costs little, so it may follow one that no longer fits. */
function batchesOf(tests: readonly Covering[]): Covering[][] {
  const files = new Set<string>()
  let [sum, waiting] = [0, tests]
  return SUMS_MS.map((max) => {
    const [batch, rest]: [Covering[], Covering[]] = [[], []]
    for (const test of waiting) {
      const cost = test.ms + (files.has(test.file) ? 0 : test.fileMs)
      if (sum + cost > max) {
        rest.push(test)
        continue
      }
      sum += cost
      files.add(test.file)
      batch.push(test)
    }
    waiting = rest
    return batch
  }).filter((batch) => batch.length > 0)
}
