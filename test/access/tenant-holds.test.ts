import { expect, it } from 'vitest'
import { startServer } from '../fixtures/server.ts'

it('holds neither a type nor a limit, and corrects no rate, for a worker whose key has groups', async () => {
  const guarded = await startServer({ auth: 'keys' })
  await guarded.queue.configureType('shared', { declared: true })
  await guarded.queue.configureLimit('quota', { rate: { max: 100, perMs: 3_600_000 } })
  const admin = guarded.as(await guarded.key(['admin', 'submit', 'read']))
  const worker = guarded.as(await guarded.key(['work'], { bounds: { types: null, groups: ['acme'] } }))
  const start = async () => {
    const task = { type: 'shared', group: 'acme', uses: { quota: 10 }, max_retry: 9 }
    expect((await admin.call('POST', '/tasks', task)).status).toBe(201)
    const { body } = await worker.call('POST', '/tasks/turn', { types: ['shared'], max: 1 })
    return body.leases[0].lease as string
  }
  const held = { error: 'HTTP 429', hold: '1h' }
  for (const more of [{}, { usage: { quota: 90 } }, { limit: 'quota' }, { limit: 'quota', usage: { quota: 90 } }]) {
    const turn = await worker.call('POST', '/tasks/turn', { outcomes: [{ lease: await start(), ...held, ...more }] })
    expect(turn.body.outcomes).toEqual([{ status: 'pending' }])
    const failed = await worker.call('POST', `/leases/${await start()}/fail`, { ...held, ...more })
    expect(failed).toMatchObject({ status: 200, body: { status: 'pending' } })
  }
  const failure = { error: 'no', delay: '1h', usage: { quota: 90 } }
  await worker.call('POST', '/tasks/turn', { outcomes: [{ lease: await start(), ...failure }] })
  await start()
  expect((await guarded.queue.types({ names: ['shared'] }))[0]).toMatchObject({ heldUntil: null })
  expect(await guarded.queue.limits({ names: ['quota'] })).toMatchObject([{ heldUntil: null }])
})

it('holds the type for a worker whose key has types only', async () => {
  const guarded = await startServer({ auth: 'keys' })
  await guarded.queue.configureType('own', { declared: true })
  await guarded.as(await guarded.key(['submit'])).call('POST', '/tasks', { type: 'own' })
  const worker = guarded.as(await guarded.key(['work'], { bounds: { types: ['own'], groups: null } }))
  const { leases } = (await worker.call('POST', '/tasks/turn', { types: ['own'], max: 1 })).body
  const outcomes = [{ lease: leases[0].lease, error: 'HTTP 429', hold: '1h' }]
  expect((await worker.call('POST', '/tasks/turn', { outcomes })).body.outcomes).toEqual([{ status: 'pending' }])
  expect((await guarded.queue.types({ names: ['own'] }))[0]!.heldUntil).toBeGreaterThan(Date.now())
})
