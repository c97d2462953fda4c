// @ts-check
import { createClient } from 'xqueue'

/** @type {import('xqueue').Client<typeof import('./handlers.js').default>} */
const client = createClient(process.env.XQUEUE_SERVER)
const task = await client.submit('greet', { name: process.argv[2] ?? 'Ann' })
const { text } = await client.result(task)
console.log(text)
