import type { Sample, Soaked } from './soak.ts'

const MB = 1_000_000

/** How much more than at the beginning still counts as flat. */
const ALLOWED = {
  heapBytes: { times: 1.5, more: 30 * MB },
  files: { times: 1, more: 25 },
  storeBytes: { times: 1.5, more: 60 * MB },
  databaseBytes: { times: 1.25, more: 20 * MB },
}

/** The faults of a soak; an empty list if there are none. Ignores times. */
export function complaintsOf({ samples, lost, endedTwice, gaps, accepted }: Soaked): string[] {
  const complaints: string[] = []
  if (lost > 0) complaints.push(`${lost} accepted tasks did not end`)
  if (endedTwice > 0) complaints.push(`${endedTwice} ends more than tasks`)
  if (gaps > 0) complaints.push('events were gone before they were read: the account is not whole')
  if (accepted === 0) complaints.push('nothing was accepted')
  const [rest] = samples
  const steady = samples.filter(({ phase }) => phase === 'steady')
  // Stores of kept data fill up first.
  const base = steady[Math.floor(steady.length / 4)] ?? rest!
  const last = [...steady.slice(-1), ...samples.filter(({ phase }) => phase === 'after')]
  for (const [what, { times, more }] of Object.entries(ALLOWED)) {
    const field = what as keyof typeof ALLOWED
    for (const sample of last) {
      if (sample[field] <= base[field] * times + more) continue
      complaints.push(`${field} grew from ${base[field]} to ${sample[field]} (${sample.phase})`)
    }
  }
  for (const sample of samples) complaints.push(...unexpected(sample))
  return complaints
}

/** An overloaded server refuses with 429 or 503, or answers late; it does nothing else. */
function unexpected({ phase, statuses }: Sample): string[] {
  const allowed = phase === 'steady' ? ['201'] : ['201', '429', '503']
  const strange = Object.keys(statuses).filter((status) => !allowed.includes(status))
  return strange.map((status) => `${phase}: ${statuses[status]} answers were ${status}`)
}
