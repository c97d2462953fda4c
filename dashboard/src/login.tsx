import { useEffect, useRef, useState } from 'preact/hooks'
import { call, urlOf } from './api.ts'
import { ErrorLine, Panel, useAction } from './parts.tsx'
import { session } from './session.ts'
import { say, type Word } from './words.ts'

/** Why the identity provider's login failed: the server sends the browser back with a code, which is shown once. */
function takeLoginError(): string | null {
  const code = /^#login-error=(\w+)$/.exec(location.hash)?.[1]
  if (code === undefined) return null
  history.replaceState(null, '', location.pathname)
  return say(LOGIN_ERRORS[code] ?? 'loginFailed')
}
const LOGIN_ERRORS: Readonly<Record<string, Word>> = {
  forbidden: 'loginNoRole',
  issuer_unavailable: 'loginUnavailable',
}
const loginError = takeLoginError()

/** The user enters a key once and gets a cookie that scripts cannot read. */
export function LoginView() {
  const [key, setKey] = useState('')
  const [run, error] = useAction()
  const field = useRef<HTMLInputElement>(null)
  useEffect(() => field.current?.focus(), [])
  const submit = (event: Event) => {
    event.preventDefault()
    run(async () => {
      await call('POST', '/session', { key })
      location.reload()
    })
  }
  return (
    <div class="login">
      <h1>{say('login')}</h1>
      <ErrorLine error={loginError ?? ''} />
      {session.login_url && (
        <Panel>
          <a class="button" href={urlOf(session.login_url)}>
            {say('loginProvider')}
          </a>
        </Panel>
      )}
      <Panel>
        <form onSubmit={submit}>
          <label>
            {say('apiKey')}
            <input
              type="password"
              ref={field}
              name="key"
              required
              autocomplete="current-password"
              spellcheck={false}
              value={key}
              onInput={({ currentTarget }) => setKey(currentTarget.value)}
            />
          </label>
          <button type="submit">{say('logIn')}</button>
        </form>
        <ErrorLine error={error} />
        <p class="dim">
          {say('loginHint')} <code>xqueue keys create NAME --scopes read,submit</code>
        </p>
      </Panel>
    </div>
  )
}

/** Who is logged in, and the way out. */
export function LoggedIn() {
  const [run] = useAction()
  if (!session.access_control || session.name === null) return null
  const logOut = () =>
    run(async () => {
      await call('DELETE', '/session')
      location.reload()
    })
  return (
    <>
      <span class="who dim" title={session.scopes.join(', ')}>
        {session.name}
      </span>
      <button type="button" class="plain" onClick={logOut}>
        {say('logOut')}
      </button>
    </>
  )
}
