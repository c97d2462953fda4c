import { runInNewContext } from 'node:vm'
import { defineHandlers, type Handlers } from '../../src/worker/handler.ts'

/** Values that break code that reads them, by name. */
export const THROWN: Readonly<Record<string, () => unknown>> = {
  'a stack that is an object': () => Object.assign(new Error('odd'), { stack: { not: 'text' } }),
  'a stack that throws': () =>
    Object.defineProperty(new Error('odd'), 'stack', {
      get: () => {
        throw new Error('no stack')
      },
    }),
  'a name that is a symbol': () => Object.assign(new Error('odd'), { name: Symbol('odd'), stack: undefined }),
  'a message that throws': () =>
    Object.defineProperties(new Error('odd'), {
      message: {
        get: () => {
          throw new Error('no message')
        },
      },
      stack: { value: undefined },
    }),
  'a proxy': () =>
    new Proxy(
      {},
      {
        get: () => {
          throw new Error('trap')
        },
        getPrototypeOf: () => {
          throw new Error('trap')
        },
        ownKeys: () => {
          throw new Error('trap')
        },
      },
    ),
  'a revoked proxy': () => {
    const { proxy, revoke } = Proxy.revocable({}, {})
    revoke()
    return proxy
  },
  'an error of another realm': () => runInNewContext('new TypeError("elsewhere")'),
  'an object that cannot be written': () => ({
    toJSON: () => {
      throw new Error('no JSON')
    },
    toString: () => {
      throw new Error('no text')
    },
  }),
  'a symbol': () => Symbol('odd'),
  undefined: () => undefined,
  null: () => null,
  'a BigInt': () => 1n,
  'frames for a stack': () => {
    const before = Error.prepareStackTrace
    Error.prepareStackTrace = (_, frames) => frames
    const error = new Error('odd')
    void error.stack
    Error.prepareStackTrace = before
    return error
  },
}

const thrown = (how: unknown) => THROWN[how as string]!()
const run = ({ payload }: { payload: unknown }): never => {
  throw thrown(payload)
}
const stray = ({ payload }: { payload: unknown }) =>
  new Promise<never>(() => {
    setTimeout(() => {
      throw thrown(payload)
    })
  })
const caused = (): never => {
  throw new Error('outer', { cause: new Error('inner') })
}

export default defineHandlers({
  here: { run },
  isolated: { isolate: true, run },
  stray: { run: stray },
  isolated_stray: { isolate: true, run: stray },
  caused: { run: caused },
  isolated_caused: { isolate: true, run: caused },
  fine: { run: () => 'ok' },
} as Handlers)
