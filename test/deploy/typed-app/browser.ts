import { createClient } from 'xqueue/client'

/** Compiled with the types of browsers and without those of Node.js. */
export const greet = async (name: string): Promise<string> => {
  const client = createClient<{ greet: { run: (task: { payload: { name: string } }) => string } }>('http://127.0.0.1')
  return client.result(await client.submit('greet', { name }))
}
