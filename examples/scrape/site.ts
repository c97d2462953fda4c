import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

const ANSWER_MS = 20

/** A small site whose pages link to each other in all directions, and that notices how it is treated. */
export class Site {
  readonly #server: Server
  readonly #fetched = new Map<string, number>()
  #open = 0
  #openMost = 0

  static async start(name: string, pages: number): Promise<Site> {
    const site = new Site(name, pages)
    await once(site.#server.listen(0, '127.0.0.1'), 'listening')
    return site
  }

  private constructor(name: string, pages: number) {
    const links = Array.from({ length: pages }, (_, page) => `<li><a href="/${page}">${name} ${page}</a></li>`).join('')
    this.#server = createServer(async (request, response) => {
      this.#openMost = Math.max(this.#openMost, ++this.#open)
      this.#fetched.set(request.url!, (this.#fetched.get(request.url!) ?? 0) + 1)
      await sleep(ANSWER_MS)
      this.#open--
      response.setHeader('Content-Type', 'text/html')
      response.end(`<title>${name}${request.url}</title><ul>${links}</ul><a href="https://example.com/">elsewhere</a>`)
    })
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/`
  }

  toString(): string {
    const most = Math.max(...this.#fetched.values())
    return `${this.#fetched.size} pages, each fetched ${most} time, ${this.#openMost} at once`
  }

  stop(): void {
    this.#server.close()
    this.#server.closeAllConnections()
  }
}
