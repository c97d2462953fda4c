import { get } from './api.ts'

const AGAIN_MS = 1_000

export type Scope = 'submit' | 'view' | 'read' | 'work' | 'admin'

/** The current user and its rights; without access control, full access. */
export interface Session {
  access_control: boolean
  name: string | null
  scopes: Scope[]
  /** URL of the login with the identity provider; null without one. */
  login_url: string | null
}

/** It changes only with a new load of the page: nothing of what one key showed is left for the next. */
export const session: Session = await readSession()

export function may(scope: Scope): boolean {
  if (session.scopes.includes(scope) || session.scopes.includes('admin')) return true
  // Pages show what there is: without payloads, where those are not for this key.
  return scope === 'read' && session.scopes.includes('view')
}

async function readSession(): Promise<Session> {
  for (;;) {
    try {
      return await get<Session>('/session')
    } catch {
      await new Promise((resolve) => setTimeout(resolve, AGAIN_MS))
    }
  }
}
