import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type BrowserContext, chromium, type Page } from 'playwright-core'
import { pathOf } from './installed.ts'

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

  static async start(): Promise<Browser> {
    const folder = mkdtempSync(join(tmpdir(), 'xqueue-chromium-'))
    const context = await chromium.launchPersistentContext(folder, {
      executablePath: pathOf('chromium')!,
      headless: true,
      args: ARGS,
      viewport: { width: 1360, height: 900 },
      locale: 'en-US',
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
