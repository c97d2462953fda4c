/** Paints a picture, has a thumbnail made of it, and shows the progress: see handlers.ts. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { PNG } from 'pngjs'
import { createClient } from '../../src/index.ts'
import type handlers from './handlers.ts'
import { PICTURES } from './handlers.ts'

const client = createClient<typeof handlers>(process.env.XQUEUE_SERVER)

const sunset = new PNG({ width: 1_600, height: 1_000 })
for (let at = 0; at < sunset.data.length; at += 4) {
  const height = at / sunset.data.length
  sunset.data.set([255 - 120 * height, 180 - 140 * height, 60 + 100 * height, 255], at)
}
mkdirSync(PICTURES, { recursive: true })
writeFileSync(join(PICTURES, 'sunset.png'), PNG.sync.write(sunset))

const task = await client.submit('thumbnail', { picture: 'sunset.png', width: 200 })
const watching = new AbortController()
const thumbnail = client.result(task).finally(() => watching.abort())
for await (const { status, progress } of client.changes({ taskId: task.id }, watching.signal)) {
  console.log(status, progress === null ? '' : `${progress} %`)
}
const { name, width, height } = await thumbnail
console.log(`${join(PICTURES, name)} has ${width} × ${height} pixels`)
