import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { root } from '../fixtures/root.ts'
import type { Tree } from '../mutations/tree.ts'
import { type Mutant, mutated } from './mutants.ts'

const TSC = join(root, 'node_modules/typescript/bin/tsc')
const CHECK_MS_MAX = 300_000
/** A mutant may leave a variable unused. */
const FLAGS = ['--noEmit', '--pretty', 'false', '--noUnusedLocals', 'false', '--noUnusedParameters', 'false']

type Sources = Pick<Tree, 'folder' | 'run'>

/**
 * The mutants that compile. Those of different functions are checked together, because a check takes seconds: an error
 * counts for the mutant in its line. Where it is in none of their lines, those of its file are checked one by one.
 */
export async function withoutBroken(tree: Sources, mutants: readonly Mutant[]): Promise<Mutant[]> {
  const broken = new Set<Mutant>()
  const oneByOne = new Set<string>()
  let left = mutants.filter(({ file }) => file.endsWith('.ts'))
  while (left.length > 0) {
    const round = apart(left, ({ file, within }) => (oneByOne.has(file) ? file : `${file}#${within}`))
    const errors = await errorsOf(tree, round)
    const checked = new Set<Mutant>()
    for (const [file, ours] of Map.groupBy(round, (mutant) => mutant.file)) {
      const lines = errors.get(file) ?? []
      const text = textIn(tree, file)
      const guilty = ours.length === 1 && lines.length > 0 ? ours : ours.filter((one) => hasOne(lines, text, one))
      for (const mutant of guilty) broken.add(mutant)
      for (const mutant of lines.length === 0 ? ours : guilty) checked.add(mutant)
      if (lines.length > 0 && guilty.length === 0) oneByOne.add(file)
    }
    left = left.filter((mutant) => !checked.has(mutant))
  }
  return mutants.filter((mutant) => !broken.has(mutant))
}

/** One mutant of each key, without those that overlap. */
function apart(mutants: readonly Mutant[], keyOf: (mutant: Mutant) => string): Mutant[] {
  const chosen = [...new Map(mutants.map((mutant) => [keyOf(mutant), mutant])).values()]
  const ends = new Map<string, number>()
  return chosen
    .sort((a, b) => a.start - b.start)
    .filter(({ file, start, end }) => {
      if (start < (ends.get(file) ?? 0)) return false
      ends.set(file, end)
      return true
    })
}

/** The lines with errors, by file. */
async function errorsOf(tree: Sources, round: readonly Mutant[]): Promise<Map<string, number[]>> {
  const byFile = Map.groupBy(round, ({ file }) => file)
  const texts = new Map([...byFile.keys()].map((file) => [file, textIn(tree, file)]))
  const write = (file: string, text: string) => writeFileSync(join(tree.folder, file), text)
  for (const [file, ours] of byFile) {
    write(
      file,
      ours.reduceRight(
        (text, mutant) => mutated(text, { ...mutant, to: asManyLines(texts.get(file)!, mutant) }),
        texts.get(file)!,
      ),
    )
  }
  try {
    const { text } = await tree.run([TSC, '-p', 'tsconfig.build.json', ...FLAGS], CHECK_MS_MAX)
    const found = [...text.matchAll(/^(src\/\S+?)\((\d+),\d+\): error/gm)]
    const byError = Map.groupBy(found, ([, file]) => file!)
    return new Map([...byError].map(([file, errors]) => [file, errors.map(([, , line]) => Number(line))]))
  } finally {
    for (const [file, text] of texts) write(file, text)
  }
}

/** What replaces the text of a mutant, with as many lines, so that lines have the same numbers. */
function asManyLines(text: string, { start, end, to }: Mutant): string {
  return to + '\n'.repeat(Math.max(linesIn(text.slice(start, end)) - linesIn(to), 0))
}

function hasOne(lines: readonly number[], text: string, { line, start, end }: Mutant): boolean {
  return lines.some((one) => one >= line && one <= line + linesIn(text.slice(start, end)) - 1)
}

function linesIn(text: string): number {
  return text.split('\n').length
}

function textIn(tree: Sources, file: string): string {
  return readFileSync(join(tree.folder, file), 'utf8')
}
