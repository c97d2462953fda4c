/**
 * A pipeline of calls to a language model: each document is summarized, each summary translated, and a digest made of
 * them all. Each step is a task that waits for those before it and receives their results (submit.ts has the flow).
 * After a 429, no task of the type starts until the model accepts calls again (`RateLimited`), and no attempt counts. A
 * model that fails is asked again later, and a wrong key is not tried twice. `rate` keeps all workers together within
 * what the account allows.
 *
 *   npm run xqueue -- serve --handlers examples/ai-pipeline/handlers.ts
 *   npx node examples/ai-pipeline/submit.ts        (in another terminal)
 *
 * Any server with OpenAI's API will do: OPENAI_BASE_URL, OPENAI_API_KEY and OPENAI_MODEL say which. Without them, a
 * stand-in on this machine answers (model.ts).
 */
import { DoNotRetry, defineHandlers, type Predecessor, RateLimited, type TaskWith } from '../../src/index.ts'
import { startModel } from './model.ts'

const { OPENAI_API_KEY = 'none', OPENAI_MODEL = 'stand-in' } = process.env
const base = process.env.OPENAI_BASE_URL ?? (await startModel())

/** What calls of a model have in common. */
const calling = {
  concurrency: 4,
  rate: { max: 60, per: '1m' },
  processTimeout: '2m',
  maxRetry: 8,
  retry: { base: '1s', cap: '1m' },
}

export default defineHandlers({
  summarize: {
    ...calling,
    run: async ({ payload }: TaskWith<{ document: string }>, { signal }) => ({
      text: await ask(`Summarize in one sentence:\n${payload.document}`, signal),
    }),
  },
  translate: {
    ...calling,
    run: async ({ payload }: TaskWith<{ language: string }>, { signal, predecessors }) => {
      const [summary = ''] = textsOf(predecessors)
      return { text: await ask(`Translate into ${payload.language}:\n${summary}`, signal) }
    },
  },
  digest: {
    run: (_task: TaskWith<object>, { predecessors }) => {
      const lines = textsOf(predecessors)
      return { lines, missing: predecessors.length - lines.length }
    },
  },
})

/** What those before it have written, as far as they succeeded. */
function textsOf(predecessors: readonly Predecessor[]): string[] {
  const done = predecessors.filter(({ status }) => status === 'success')
  return done.map(({ result }) => (result as { text: string }).text)
}

async function ask(prompt: string, signal: AbortSignal): Promise<string> {
  const answer = await fetch(`${base}/chat/completions`, {
    method: 'POST',
    signal,
    headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${OPENAI_API_KEY}` },
    body: JSON.stringify({ model: OPENAI_MODEL, messages: [{ role: 'user', content: prompt }] }),
  })
  if (answer.status === 429) {
    throw new RateLimited({ for: Number(answer.headers.get('Retry-After')) || 5 }, 'the model is asked too often')
  }
  const said = await answer.text()
  if (answer.status >= 500) throw new Error(`the model answered ${answer.status}: ${said}`)
  if (!answer.ok) throw new DoNotRetry(`the model refused: ${said}`)
  return (JSON.parse(said) as { choices: { message: { content: string } }[] }).choices[0]!.message.content
}
