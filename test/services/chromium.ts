import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type BrowserContext, chromium, type Locator, type Page } from 'playwright-core'
import { expect, vi } from 'vitest'
import { pathOf } from './installed.ts'

const WAIT_MS = 30_000
const ARGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]

/** A real browser with a profile of its own. Everything that a page complains of is kept in `complaints`. */
export class Browser {
  readonly complaints: string[] = []
  readonly requested: string[] = []
  readonly #folder: string
  readonly #context: BrowserContext

  /** @param options.ignoreHTTPSErrors for a certificate that vouches for itself */
  static async start(options: { ignoreHTTPSErrors?: boolean } = {}): Promise<Browser> {
    const folder = mkdtempSync(join(tmpdir(), 'xqueue-chromium-'))
    const context = await chromium.launchPersistentContext(folder, {
      executablePath: pathOf('chromium')!,
      headless: true,
      args: ARGS,
      viewport: { width: 1360, height: 900 },
      locale: 'en-US',
      ...options,
    })
    return new Browser(folder, context)
  }

  private constructor(folder: string, context: BrowserContext) {
    this.#folder = folder
    this.#context = context
  }

  async open(url: string): Promise<Page> {
    const page = await this.#context.newPage()
    page.on('pageerror', (error) => this.complaints.push(error.message))
    page.on('console', (message) => {
      if (message.type() === 'error') this.complaints.push(message.text())
    })
    page.on('request', (request) => this.requested.push(request.url()))
    page.on('websocket', (socket) => this.requested.push(socket.url()))
    await page.goto(url)
    return page
  }

  async close(): Promise<void> {
    await this.#context.close()
    rmSync(this.#folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 })
  }
}

/** Waits for text on the page as it is: nothing here loads it again. */
export function has(where: Locator, text: string | RegExp): Promise<void> {
  const fits = (have: string) => (typeof text === 'string' ? have.includes(text) : text.test(have))
  return vi.waitFor(async () => expect(await where.textContent({ timeout: 1_000 })).toSatisfy(fits), {
    timeout: WAIT_MS,
    interval: 50,
  })
}

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')

/** What axe finds wrong with the page. */
export function faultsOf(page: Page): Promise<string[]> {
  // Handed over as text: the page's policy allows no script to be added, which is as it should be.
  return page.evaluate(`(() => { ${axe}; return axe.run() })()
    .then(({ violations }) => violations.map(({ id, nodes }) => id + ': ' + nodes.map(({ html }) => html).join(' ')))`)
}
