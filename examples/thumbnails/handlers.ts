/**
 * Thumbnails: work that keeps a processor busy, with progress. `isolate` gives each run a thread, so that shrinking a
 * picture holds up nothing else, and a cancel ends it even if it does not look.
 *
 *   npm run xqueue -- serve --handlers examples/thumbnails/handlers.ts
 *   npx node examples/thumbnails/submit.ts         (in another terminal)
 *
 * Pictures are PNG files in the folder PICTURES (default ./pictures), where the thumbnails go as well.
 */
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { PNG } from 'pngjs'
import { z } from 'zod'
import { DoNotRetry, defineHandlers } from '../../src/index.ts'

export const PICTURES = process.env.PICTURES ?? 'pictures'

export default defineHandlers({
  thumbnail: {
    isolate: true,
    concurrency: 2, // as many as there are processors
    processTimeout: '1m',
    payload: z.object({
      picture: z.string().regex(/^[\w-]+\.png$/), // a name, not a path, so that no other folder is read
      width: z.number().int().min(1).max(1_000),
    }),
    run: async ({ payload: { picture, width } }, { signal, progress }) => {
      const source = readPicture(await readFile(join(PICTURES, picture)))
      const height = Math.max(1, Math.round((source.height * width) / source.width))
      const thumbnail = new PNG({ width, height })
      for (let y = 0; y < height; y++) {
        for (let x = 0; x < width; x++) thumbnail.data.set(averageOf(source, thumbnail, x, y), (y * width + x) * 4)
        progress(Math.round(((y + 1) / height) * 100))
        await setImmediate(undefined, { signal }) // yields, so that a cancellation can arrive
      }
      const name = picture.replace('.png', `-${width}.png`)
      await writeFile(join(PICTURES, name), PNG.sync.write(thumbnail))
      return { name, width, height }
    },
  },
})

function readPicture(bytes: Buffer): PNG {
  try {
    return PNG.sync.read(bytes)
  } catch (error) {
    throw new DoNotRetry(`this is no PNG: ${(error as Error).message}`)
  }
}

/** The mean colour of the pixels of `source` that one pixel of the smaller picture stands for. */
function averageOf(source: PNG, { width, height }: PNG, x: number, y: number): number[] {
  const left = Math.floor((x * source.width) / width)
  const right = Math.max(left + 1, Math.floor(((x + 1) * source.width) / width))
  const top = Math.floor((y * source.height) / height)
  const bottom = Math.max(top + 1, Math.floor(((y + 1) * source.height) / height))
  const sums = [0, 0, 0, 0]
  for (let row = top; row < bottom; row++) {
    for (let column = left; column < right; column++) {
      const at = (row * source.width + column) * 4
      for (let channel = 0; channel < 4; channel++) sums[channel]! += source.data[at + channel]!
    }
  }
  return sums.map((sum) => Math.round(sum / ((right - left) * (bottom - top))))
}
