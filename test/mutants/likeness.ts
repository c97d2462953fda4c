/** What has rare words in common with a text, the most alike first: the test of a rule is often named like its code. */
export function mostAlike<T>(items: readonly T[], textOf: (item: T) => string, text: string): T[] {
  const wanted = wordsOf(text)
  const shared = new Map(items.map((item) => [item, [...wordsOf(textOf(item))].filter((word) => wanted.has(word))]))
  const counts = new Map<string, number>()
  for (const word of [...shared.values()].flat()) counts.set(word, (counts.get(word) ?? 0) + 1)
  const likeness = (item: T) => shared.get(item)!.reduce((sum, word) => sum + 1 / Math.sqrt(counts.get(word)!), 0)
  return items
    .map((item) => ({ item, likeness: likeness(item) }))
    .filter((item) => item.likeness > 0)
    .sort((a, b) => b.likeness - a.likeness)
    .map(({ item }) => item)
}

/** In most code, and in names of tests with another meaning. */
const COMMON = new Set([
  'null',
  'undefin',
  'return',
  'const',
  'true',
  'fals',
  'this',
  'store',
  'sqlit',
  'redi',
  'kafka',
  'task',
  'test',
])

/** Words of prose, and those that names in code are made of, without common endings. */
function wordsOf(text: string): Set<string> {
  const words = text.match(/[A-Z]?[a-z]{3,}/g) ?? []
  const stems = words.map((word) => word.toLowerCase().replace(/(?:ies|ing|ed|es|s|y|e)$/, ''))
  return new Set(stems.filter((stem) => !COMMON.has(stem)))
}
