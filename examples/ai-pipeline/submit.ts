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
const flow = client.flow()
const translations = DOCUMENTS.map((document) => {
  const summary = flow.add('summarize', { document })
  return flow.add('translate', { language: 'Finnish' }, { after: [summary] })
})
// What could not be had is missing in the digest, and does not keep it from being made.
flow.add('digest', {}, { after: translations, onFailure: 'run' })
const { ids, batch } = await flow.submit()

await batch.ended({ onProgress: ({ progress }) => console.log(`${progress} % done`) })
const { lines, missing } = await client.result<'digest'>(ids.at(-1)!)
console.log(`${lines.join('\n')}\n${missing} missing`)
