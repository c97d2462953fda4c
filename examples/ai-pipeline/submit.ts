/** Sends documents through the pipeline and shows what comes out: see handlers.ts. */
import { createClient } from '../../src/index.ts'
import type handlers from './handlers.ts'

const DOCUMENTS = [
  'The bridge is closed. Repairs have begun this morning and will take two weeks.',
  'Sales grew by a tenth. Most of it came from one customer, who will not be back.',
  'The trial ended well. Eight of nine patients could walk again after a month.',
  'Rain is expected. Farmers in the valley have brought in the hay just in time.',
  'The museum opens again. Its new wing shows the letters that nobody had read.',
  'A lost satellite has been found. It still answers, thirty years after its last call.',
]

const client = createClient<typeof handlers>(process.env.XQUEUE_SERVER)
const ids = await client.submitMany(DOCUMENTS.map((document) => ({ type: 'summarize', payload: { document } })))
await Promise.all(
  ids.map(async (id) => {
    const { summary, translation } = await client.result<'summarize'>(id)
    const { text } = await client.result<'translate'>(translation)
    console.log(`${summary} → ${text}`)
  }),
)
