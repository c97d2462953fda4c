export const NO_TIME = 'must be an RFC 3339 time, such as 2030-01-31T12:00:00Z'

/** Reads an RFC 3339 time as milliseconds since the epoch; undefined if the text is none. */
export function parseTime(text: string): number | undefined {
  const wellFormed = /^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)$/.test(text)
  const at = wellFormed ? Date.parse(text) : Number.NaN
  return Number.isNaN(at) ? undefined : at
}
