import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { root } from '../fixtures/root.ts'
import type { Tree } from '../mutations/tree.ts'
import { type Mutant, mutated } from './mutants.ts'

const TSC = join(root, 'node_modules/typescript/bin/tsc')
const CHECK_MS_MAX = 300_000
/** A mutant may leave a variable unused. */
const FLAGS = ['--noEmit', '--pretty', 'false', '--noUnusedLocals', 'false', '--noUnusedParameters', 'false']

/**
 * The mutants that compile. One of each file at a time is checked together with those of other files, because a check
 * takes seconds; an error counts for the file that it is in.
 */
export async function withoutBroken(tree: Tree, mutants: readonly Mutant[]): Promise<Mutant[]> {
  const whole = new Set(mutants)
  let left = mutants.filter(({ file }) => file.endsWith('.ts'))
  while (left.length > 0) {
    const round = [...new Map(left.map((mutant) => [mutant.file, mutant])).values()]
    const broken = await brokenFiles(tree, round)
    for (const mutant of round) if (broken.has(mutant.file)) whole.delete(mutant)
    left = left.filter((mutant) => !round.includes(mutant))
  }
  return mutants.filter((mutant) => whole.has(mutant))
}

async function brokenFiles(tree: Tree, round: readonly Mutant[]): Promise<Set<string>> {
  const texts = round.map(({ file }) => readFileSync(join(tree.folder, file), 'utf8'))
  const write = (mutant: Mutant, text: string) => writeFileSync(join(tree.folder, mutant.file), text)
  for (const [index, mutant] of round.entries()) write(mutant, mutated(texts[index]!, mutant))
  try {
    const { text } = await tree.run([TSC, '-p', 'tsconfig.build.json', ...FLAGS], CHECK_MS_MAX)
    return new Set([...text.matchAll(/^(src\/\S+?)\(\d+,\d+\): error/gm)].map(([, file]) => file!))
  } finally {
    for (const [index, mutant] of round.entries()) write(mutant, texts[index]!)
  }
}
