/**
 * A pipeline of calls to a language model: each document is summarized, each summary translated. A model that says 429
 * is asked again when it says (`RetryAfter`), one that fails is asked again later, a wrong key is not tried twice; and
 * `rate` keeps all workers together within what the account allows.
 *
 *   npm run xqueue -- serve --handlers examples/ai-pipeline/handlers.ts
 *   npx node examples/ai-pipeline/submit.ts        (in another terminal)
 *
 * Any server with OpenAI's API will do: OPENAI_BASE_URL, OPENAI_API_KEY and OPENAI_MODEL say which. Without them, a
 * stand-in on this machine answers (model.ts).
 */
import { createClient, DoNotRetry, defineHandlers, RetryAfter, type TaskWith } from '../../src/index.ts'
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

const handlers = defineHandlers({
  summarize: {
    ...calling,
    run: async ({ id, payload }: TaskWith<{ document: string }>, { signal }) => {
      const summary = await ask(`Summarize in one sentence:\n${payload.document}`, signal)
      // The key is this task's id: an attempt that runs twice submits the next stage once.
      const next = await client.submit('translate', { text: summary, language: 'Finnish' }, { idempotencyKey: id })
      return { summary, translation: next.id }
    },
  },
  translate: {
    ...calling,
    run: async ({ payload }: TaskWith<{ text: string; language: string }>, { signal }) => ({
      text: await ask(`Translate into ${payload.language}:\n${payload.text}`, signal),
    }),
  },
})
export default handlers

const client = createClient<{
  translate: { run: (task: TaskWith<{ text: string; language: string }>) => { text: string } }
}>(process.env.XQUEUE_SERVER)

async function ask(prompt: string, signal: AbortSignal): Promise<string> {
  const answer = await fetch(`${base}/chat/completions`, {
    method: 'POST',
    signal,
    headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${OPENAI_API_KEY}` },
    body: JSON.stringify({ model: OPENAI_MODEL, messages: [{ role: 'user', content: prompt }] }),
  })
  if (answer.status === 429) {
    throw new RetryAfter(Number(answer.headers.get('Retry-After') ?? 5) * 1_000, 'the model is asked too often')
  }
  const said = await answer.text()
  if (answer.status >= 500) throw new Error(`the model answered ${answer.status}: ${said}`)
  if (!answer.ok) throw new DoNotRetry(`the model refused: ${said}`)
  return (JSON.parse(said) as { choices: { message: { content: string } }[] }).choices[0]!.message.content
}
