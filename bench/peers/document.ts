import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { root } from '../servers.ts'
import { BEFORE } from './catalog.ts'
import { PARTS, type Record } from './tables.ts'
import type { Language } from './words.ts'

const RESULTS = join(root, 'bench/results/peers.json')
const PAGES: readonly (readonly [file: string, language: Language])[] = [
  ['docs/performance.md', 'en'],
  ['docs/zh/performance.md', 'zh'],
  ['README.md', 'en'],
  ['README.zh-CN.md', 'zh'],
]

export function readRecord(): Partial<Record> {
  return existsSync(RESULTS) ? JSON.parse(readFileSync(RESULTS, 'utf8')) : {}
}

/** Stores the results, without those of an earlier checkout. */
export function writeRecord(record: Record): void {
  const short = (key: string, value: unknown) => {
    if (key.endsWith(BEFORE)) return undefined
    return typeof value === 'number' ? Number(value.toPrecision(6)) : value
  }
  writeFileSync(RESULTS, `${JSON.stringify(record, short, 1)}\n`)
}

/** A page with the generated parts of these results between their marks. */
export function filled(page: string, language: Language, record: Record): string {
  return page.replace(
    /(<!-- bench:(\w+) -->)[\s\S]*?(<!-- \/bench -->)/g,
    (_, open: string, name: string, close: string) => `${open}\n\n${PARTS[name]!(record, language)}\n\n${close}`,
  )
}

/** All pages as they are with these results. */
export function pages(record: Record): { file: string; before: string; after: string }[] {
  return PAGES.map(([name, language]) => {
    const file = join(root, name)
    const before = readFileSync(file, 'utf8')
    return { file, before, after: filled(before, language, record) }
  })
}

export function writePages(record: Record): void {
  for (const { file, after } of pages(record)) writeFileSync(file, after)
}

/** `document.ts` writes the pages anew from the stored results; with `--check` it only says which ones differ. */
if (import.meta.main) {
  const record = readRecord() as Record
  if (!process.argv.includes('--check')) writePages(record)
  for (const { file } of pages(record).filter(({ before, after }) => before !== after)) {
    console.error(`${file} differs from bench/results/peers.json: node bench/peers/document.ts writes it anew`)
    process.exitCode = 1
  }
}
