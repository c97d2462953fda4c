import { createClient } from 'xqueue'
import type handlers from './handlers.ts'

const client = createClient<typeof handlers>(process.env.XQUEUE_SERVER)
const task = await client.submit('greet', { name: process.argv[2] ?? 'Ann' })
const { text } = await client.result(task)
console.log(text)
