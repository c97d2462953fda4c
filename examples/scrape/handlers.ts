/**
 * A polite crawler: each page is a task, its host is the task's group. One page of a host at a time (`groupConcurrency`),
 * all hosts taking turns, and no more than `rate` pages in any second, over all workers. What a page links to is
 * submitted under an idempotency key, so each page is fetched once, however many lead to it.
 *
 *   npm run xqueue -- serve --handlers examples/scrape/handlers.ts
 *   npx node examples/scrape/submit.ts             (in another terminal: starts two sites and crawls them)
 */
import { createHash } from 'node:crypto'
import { z } from 'zod'
import { createClient, DoNotRetry, defineHandlers, RetryAfter, XQueueError } from '../../src/index.ts'

const LINK = /<a [^>]*href="([^"#]+)"/g
const TITLE = /<title>([^<]*)</

const payload = z.object({
  crawl: z.string(), // one run of the crawler: pages are fetched once in each
  url: z.url({ protocol: /^https?$/ }),
  depth: z.number().int().min(0).max(10), // how many links further it goes
})
type Page = z.infer<typeof payload>

const handlers = defineHandlers({
  page: {
    payload,
    concurrency: 8,
    groupConcurrency: 1,
    rate: { max: 10, per: '1s' },
    processTimeout: '30s',
    run: async ({ payload: { crawl, url, depth } }, { signal }): Promise<Found> => {
      const answer = await fetch(url, { signal })
      if (answer.status === 429) throw new RetryAfter(Number(answer.headers.get('Retry-After') ?? 1))
      if (answer.status >= 500) throw new Error(`${url} answered ${answer.status}`)
      if (!answer.ok) throw new DoNotRetry(`${url} answered ${answer.status}`)
      const html = await answer.text()
      const links = [...html.matchAll(LINK)].map(([, href]) => new URL(href!, url)).filter(isOf(new URL(url).host))
      const pages = await Promise.all(
        depth === 0 ? [] : links.map(({ href }) => submitPage({ crawl, url: href, depth: depth - 1 })),
      )
      return { url, title: TITLE.exec(html)?.[1] ?? '', pages: pages.filter((id) => id !== null) }
    },
  },
})
export default handlers

/** `pages` are the tasks of newly found linked pages. */
export interface Found {
  url: string
  title: string
  pages: string[]
}

const client = createClient<{ page: { run: (task: { payload: Page }) => Found } }>(process.env.XQUEUE_SERVER)

/** The id of the page's task; null if it is known already. */
export async function submitPage(page: Page): Promise<string | null> {
  const idempotencyKey = createHash('sha256').update(`${page.crawl} ${page.url}`).digest('hex')
  try {
    return (await client.submit('page', page, { group: new URL(page.url).host, idempotencyKey })).id
  } catch (error) {
    if (error instanceof XQueueError && error.code === 'idempotency_conflict') return null
    throw error
  }
}

function isOf(host: string): (link: URL) => boolean {
  return (link) => link.host === host && /^https?:$/.test(link.protocol)
}
