/** Starts two sites on this machine, crawls them, and says how politely: see handlers.ts. */
import { createClient } from '../../src/index.ts'
import type handlers from './handlers.ts'
import { type Found, submitPage } from './handlers.ts'
import { Site } from './site.ts'

const client = createClient<typeof handlers>(process.env.XQUEUE_SERVER)
const sites = [await Site.start('north', 8), await Site.start('south', 5)]
const crawl = `crawl-${Date.now()}`
const found = new Map<string, Found>()

await Promise.all(sites.map(async ({ url }) => follow(await submitPage({ crawl, url, depth: 2 }))))
for (const { url, title } of found.values()) console.log(url, title)
for (const site of sites) {
  console.log(`${site.url} ${site}`)
  site.stop()
}

/** Waits for a page, then for all that it led to. */
async function follow(id: string | null): Promise<void> {
  if (id === null || found.has(id)) return
  const page = await client.result<'page'>(id)
  found.set(id, page)
  await Promise.all(page.pages.map(follow))
}
