import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { PNG } from 'pngjs'
import { expect, it } from 'vitest'
import { type Program, startProgram } from '../fixtures/program.ts'
import { root } from '../fixtures/root.ts'
import { commandOf, finish, node } from './example-program.ts'

let server: Program

/** `npm run xqueue -- serve …`, as the example's header has it. */
async function serve(example: string): Promise<void> {
  const [, flags] = commandOf(`${example}/handlers.ts`, 'npm run xqueue').split(' -- serve ')
  const [handlers, file] = flags!.trim().split(' ')
  server = await startProgram({ flags: [handlers!, join(root, file!)] })
  expect(commandOf(`${example}/handlers.ts`, 'npx node')).toBe(`npx node examples/${example}/submit.ts`)
}

it('thumbnails have the requested size and the content of the picture, and report progress', async () => {
  await serve('thumbnails')
  const output = await finish(node(server, 'thumbnails/submit.ts'))
  expect(output).toContain('pictures/sunset-200.png has 200 × 125 pixels')
  const { width, height, data } = PNG.sync.read(readFileSync(join(server.folder, 'pictures/sunset-200.png')))
  expect([width, height]).toEqual([200, 125])
  const top = [...data.subarray(0, 4)]
  const bottom = [...data.subarray(-4)]
  expect([top[0]! > 250, top[2]! < 65, bottom[0]! < 140, bottom[2]! > 155]).toEqual([true, true, true, true])
  const { body } = await server.call('GET', '/tasks?type=thumbnail')
  expect(body.tasks[0]).toMatchObject({ status: 'success', progress: 100, attempts: 1 })
  const refused = await server.call('POST', '/tasks', { type: 'thumbnail', payload: { picture: '../x.png', width: 1 } })
  expect([refused.status, refused.body.errors[0].path]).toEqual([400, 'payload.picture'])
})

it('the crawler fetches each page once, one page per host at a time, and keeps its rate', async () => {
  await serve('scrape')
  const output = await finish(node(server, 'scrape/submit.ts'))
  expect(output.match(/\d pages, .*/g)).toEqual([
    '9 pages, each fetched 1 time, 1 at once',
    '6 pages, each fetched 1 time, 1 at once',
  ])
  const { body } = await server.call('GET', '/tasks?type=page&limit=100')
  const starts = (body.tasks as { started_at: string }[])
    .map((task) => Date.parse(task.started_at))
    .sort((a, b) => a - b)
  expect(starts).toHaveLength(15)
  // Eleven starts never lie within one second.
  const spans = starts.slice(10).map((start, index) => start - starts[index]!)
  expect(spans.filter((span) => span < 1_000)).toEqual([])
})

it('the pipeline passes each document through its stages although the model fails and is busy', async () => {
  await serve('ai-pipeline')
  const lines = (await finish(node(server, 'ai-pipeline/submit.ts'))).trim().split('\n')
  const steps = lines.filter((line) => line.endsWith('% done'))
  expect(steps.at(-1)).toBe('100 % done')
  const digest = lines.slice(steps.length)
  expect(digest).toHaveLength(7)
  expect(digest[0]).toBe('THE BRIDGE IS CLOSED.')
  expect(digest[5]).toBe('A LOST SATELLITE HAS BEEN FOUND.')
  expect(digest[6]).toBe('0 missing')
  const { body } = await server.call('GET', '/tasks?limit=100')
  expect(body.count).toBe(13)
  // The first call of all failed, and some were refused with Retry-After.
  const attempts = (body.tasks as { attempts: number }[]).map((task) => task.attempts)
  expect(Math.max(...attempts)).toBeGreaterThan(1)
})
