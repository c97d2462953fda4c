/** Keys and sessions, JWTs, and lease tokens: a task's id, a dot, and more digits than any count has. */
const TOKENS = /\bxqs?_[\w-]{20,}|\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*|\b([\da-f]{8}-[\da-f-]{27})\.\d{30,}/g

/** A text without the tokens in it. Of a lease's token the task's id stays. */
export function withoutTokens(text: string): string {
  return text.replace(TOKENS, (_token, taskId: string | undefined) => (taskId ? `${taskId}.[token]` : '[token]'))
}
