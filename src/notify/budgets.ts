export const BUDGETS = {
  /** Maximum connections of a key with its sessions, and of one subscription token. */
  connections: { key: 1_000, token: 50 },
  /** Maximum filters over all connections. */
  filters: 10_000,
  /** Burst and rate per second of subscriptions. One with a wildcard counts as ten, because it returns many states. */
  subscriptions: { burst: 1_000, perSecond: 100, wildcard: 10 },
  /** Refusals, reduced by the rate per second, after which a client is disconnected. */
  refusals: 1_000,
} as const

interface Account<Client> {
  clients: Set<Client>
  /** Remaining subscriptions at the time `at`. */
  left: number
  at: number
  refused: number
}

/** Number of kept accounts of disconnected principals before expired ones are dropped. */
const ACCOUNTS_KEPT = 1_000

/**
 * Bounds what each principal can use of the embedded broker over all its connections, so that one key or token leaves
 * enough for others.
 */
export class Budgets<Client> {
  readonly #accounts = new Map<string, Account<Client>>()
  readonly #filtersOf: (client: Client) => number
  readonly #now: () => number
  #lookThroughAt = ACCOUNTS_KEPT

  /** @param filtersOf how many filters a client has */
  constructor(filtersOf: (client: Client) => number, now: () => number = () => performance.now()) {
    this.#filtersOf = filtersOf
    this.#now = now
  }

  /** Counts a connection; false: its principal has too many. */
  connect(principal: string, kind: 'key' | 'token', client: Client): boolean {
    const { clients } = this.#accountOf(principal)
    if (clients.size >= BUDGETS.connections[kind]) return false
    clients.add(client)
    return true
  }

  leave(principal: string, client: Client): void {
    this.#accounts.get(principal)?.clients.delete(client)
    if (this.#accounts.size > this.#lookThroughAt) this.#forgetIdle()
  }

  /** Counts a subscription. `disconnect`: the client continues after many refusals. */
  subscribe(principal: string, filter: string): 'allowed' | 'refused' | 'disconnect' {
    const account = this.#accountOf(principal)
    const cost = /[+#]/.test(filter) ? BUDGETS.subscriptions.wildcard : 1
    if (account.left >= cost && this.#filtersIn(account) < BUDGETS.filters) {
      account.left -= cost
      return 'allowed'
    }
    account.refused += 1
    return account.refused > BUDGETS.refusals ? 'disconnect' : 'refused'
  }

  #filtersIn({ clients }: Account<Client>): number {
    let filters = 0
    for (const client of clients) filters += this.#filtersOf(client)
    return filters
  }

  #accountOf(principal: string): Account<Client> {
    const now = this.#now()
    const { burst } = BUDGETS.subscriptions
    const account = this.#accounts.get(principal) ?? { clients: new Set(), left: burst, at: now, refused: 0 }
    account.left = leftAt(account, now)
    account.refused = Math.max(0, account.refused - ((now - account.at) / 1_000) * BUDGETS.subscriptions.perSecond)
    account.at = now
    this.#accounts.set(principal, account)
    return account
  }

  /** Drops disconnected principals whose budget is full again. */
  #forgetIdle(): void {
    const now = this.#now()
    for (const [principal, account] of this.#accounts) {
      const isFull = leftAt(account, now) >= BUDGETS.subscriptions.burst
      if (account.clients.size === 0 && isFull) this.#accounts.delete(principal)
    }
    this.#lookThroughAt = this.#accounts.size * 2 + ACCOUNTS_KEPT
  }
}

function leftAt({ left, at }: { left: number; at: number }, now: number): number {
  const { burst, perSecond } = BUDGETS.subscriptions
  return Math.min(burst, left + ((now - at) / 1_000) * perSecond)
}
