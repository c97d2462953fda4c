import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { reference } from '../../scripts/reference.ts'
import { fits } from '../../src/notify/topics.ts'
import { Listener } from '../fixtures/mqtt-listener.ts'
import { startServer } from '../fixtures/server.ts'

const folder = join(import.meta.dirname, '../../docs/reference')

it('docs/reference/ is up to date: else run `npm run reference`', async () => {
  for (const [name, text] of await reference()) {
    expect(readFileSync(join(folder, name), 'utf8'), name).toBe(text)
  }
})

it('docs/reference/mqtt.md lists every topic and every field that a subscriber receives, and no others', async () => {
  const text = readFileSync(join(folder, 'mqtt.md'), 'utf8')
  /** The first column of the table under a heading, or of a later one there. */
  const names = (heading: string, table = 0) => {
    const [, section = ''] = text.split(`\n## ${heading}\n`)
    const tables = [...section.split('\n## ')[0]!.matchAll(/^\|.*\n\| ---.*\n((?:\|.*\n?)*)/gm)].map(
      ([, rows]) => rows!,
    )
    return [...tables[table]!.matchAll(/^\| `([^`]+)`/gm)].map(([, name]) => name!)
  }
  const process = await startServer()
  const listener = await Listener.connect(await process.mqttUrl(), ['xqueue/#'])
  const id = await process.submit('steps')
  await listener.until(() => expect(listener.on(`xqueue/events/steps/success/${id}`)).toHaveLength(1))
  await listener.until(() => expect(listener.on('xqueue/stats').at(-1)?.body).toMatchObject({ success_tasks: 1 }))

  await process.call('PUT', '/limits/gpu', { max: 2 })
  await listener.until(() => expect(listener.on('xqueue/limits/gpu')).not.toHaveLength(0))

  const filters = names('Topics').map((topic) => topic.replaceAll(/<\w+>/g, '+'))
  const kindsOf = (topic: string) => filters.filter((filter) => fits(filter, topic))
  expect(listener.messages.map(({ topic }) => kindsOf(topic).length)).toEqual(listener.messages.map(() => 1))
  // The mark is for external brokers, and logs have to be named.
  const unheard = filters.filter((filter) => !listener.messages.some(({ topic }) => fits(filter, topic)))
  expect(unheard).toEqual(['xqueue/tasks/+/logs', 'xqueue/retained'])

  const ofAll = /^\| `xqueue\/#` \|.*\| (.*) \|$/m.exec(text)![1]!.replaceAll('`', '').split(', ')
  const received = filters.filter((filter) => listener.messages.some(({ topic }) => fits(filter, topic)))
  expect(ofAll.map((path) => `xqueue/${path.replaceAll(/<\w+>/g, '+')}`).sort()).toEqual(received.sort())

  const changes = listener.messages.filter(({ topic }) => topic.includes(id))
  for (const { body } of changes) expect(Object.keys(body)).toEqual(names('Fields of a change'))
  const limit = listener.on('xqueue/limits/gpu')[0]!.body
  expect(Object.keys(limit)).toEqual(names('Fields of a limit'))
  const { types, limits, ...figures } = listener.on('xqueue/stats').at(-1)!.body
  expect(Object.keys(figures)).toEqual(names('Fields of `stats`'))
  for (const type of types) expect(Object.keys(type)).toEqual(names('Fields of `stats`', 1))
  await listener.close()
  await process.stop()
})
