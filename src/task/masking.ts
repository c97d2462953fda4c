const WORDS = /[\w.-]{20,}/g
const KEY = /(?:^|-)xqs?_[\w-]{20}/
/** A lease token is a task id, a dot, and more digits than any counter has. */
const SECRET_OF_LEASE = /^\d{30,}$/
const JWT_CHARS_MIN = 11
/** A cheap check before the replacements, because nearly all log lines contain no secret. */
const MAY_HOLD_TOKEN = /xqs?_|eyJ|\.\d{30}/

/** Masks keys, sessions, JWTs and lease tokens in a text. The task id of a lease token stays. */
export function withoutTokens(text: string): string {
  if (!MAY_HOLD_TOKEN.test(text)) return text
  return text.replace(WORDS, (word) => {
    const parts = word.split('.')
    // A JWT has three parts; the first one is JSON in base64.
    const jwt = parts.findIndex((part, at) => at + 2 < parts.length && isJwtHeader(part))
    if (jwt >= 0) parts.splice(jwt, parts.length, '[token]')
    return parts.map((part, at) => (at > 0 && SECRET_OF_LEASE.test(part) ? '[token]' : withoutKey(part))).join('.')
  })
}

function withoutKey(part: string): string {
  const at = part.search(KEY)
  return at < 0 ? part : `${part.slice(0, part.indexOf('x', at))}[token]`
}

function isJwtHeader(part: string): boolean {
  return part.length >= JWT_CHARS_MIN && part.startsWith('eyJ')
}
