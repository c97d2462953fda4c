import { describe, expect, it } from 'vitest'
import { example } from '../../handlers/example.ts'
import type { Progress } from '../../src/task/task.ts'
import { run } from './run-handler.ts'

describe('the example handler', () => {
  it('reports progress every 100 ms, up to 100', async () => {
    const seen: Progress[] = []
    const result = await run(example, { duration: 0.25 }, { progress: (value) => seen.push(value) })
    expect(result).toEqual({ slept: 0.25 })
    expect(seen).toEqual([40, 80, 100])
  })

  it('ends at once without progress if it need not sleep', async () => {
    const seen: Progress[] = []
    expect(await run(example, { duration: 0 }, { progress: (value) => seen.push(value) })).toEqual({ slept: 0 })
    expect(seen).toEqual([])
  })

  it('stops between two steps when it is aborted', async () => {
    const controller = new AbortController()
    const seen: Progress[] = []
    const progress = (value: Progress) => {
      seen.push(value)
      controller.abort()
    }
    await expect(run(example, { duration: 10 }, { signal: controller.signal, progress })).rejects.toThrow('abort')
    expect(seen).toEqual([1])
  })

  it('wakes from its sleep when it is aborted', async () => {
    const controller = new AbortController()
    const running = run(example, { duration: 3_600 }, { signal: controller.signal })
    controller.abort()
    await expect(running).rejects.toThrow('abort')
  })
})
