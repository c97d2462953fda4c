import type { Engine, Turn } from '../../src/engine/engine.ts'
import type { Line } from './history.ts'

/** An engine, with what it answers to outcomes written down. */
export function watched(engine: Engine, write: (line: Line) => void, now = Date.now): Engine {
  const turn = async (asked: Turn) => {
    const { outcomes = [] } = asked
    try {
      const answer = await engine.turn(asked)
      answer.settled.forEach(({ accepted, status }, index) => {
        const { lease, outcome } = outcomes[index]!
        write({ what: 'settled', lease, kind: outcome.kind, accepted, status, at: now() })
      })
      return answer
    } catch (error) {
      for (const { lease } of outcomes) write({ what: 'unsure', lease, at: now() })
      throw error
    }
  }
  return new Proxy(engine, {
    get(target, name) {
      if (name === 'turn') return turn
      const value = target[name as keyof Engine] as unknown
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}
