import { Ajv2020 } from 'ajv/dist/2020.js'
import { beforeAll, expect, it } from 'vitest'
import { openTestQueue, serveQueue } from '../fixtures/server.ts'

/** The document is for programs that support a part of JSON Schema, so it uses only features that all of them read. */

// biome-ignore lint/suspicious/noExplicitAny: a JSON document, walked through
type Node = any

let document: Node
const operations: [name: string, operation: Node][] = []

beforeAll(async () => {
  const server = await serveQueue(await openTestQueue())
  document = (await server.get('/openapi.json')).body
  for (const [path, methods] of Object.entries<Node>(document.paths)) {
    for (const [method, operation] of Object.entries<Node>(methods)) operations.push([`${method} ${path}`, operation])
  }
})

function walk(node: Node, at: string, visit: (schema: Node, at: string) => void): void {
  if (typeof node !== 'object' || node === null) return
  visit(node, at)
  for (const [key, item] of Object.entries(node)) if (!/^examples?$/.test(key)) walk(item, `${at}/${key}`, visit)
}

it('names every call, with a declared tag', () => {
  const names = operations.map(([, { operationId }]) => operationId)
  expect(names).toEqual(expect.arrayContaining(['submitTask', 'getTask', 'listTasks', 'cancelTask', 'setLimit']))
  expect(new Set(names).size).toBe(names.length)
  const tags = document.tags.map(({ name }: { name: string }) => name)
  for (const [at, operation] of operations) expect(tags, at).toEqual(expect.arrayContaining(operation.tags))
})

it('refers to a named schema for each body and each answer in JSON', () => {
  for (const [at, { requestBody, responses }] of operations) {
    const media = [requestBody, ...Object.values<Node>(responses)].flatMap((part) =>
      Object.entries(part?.content ?? {}),
    )
    for (const [type, { schema }] of media as [string, Node][]) {
      if (type.includes('json')) expect(schema.$ref, at).toMatch(/^#\/components\/schemas\/[A-Z]\w+$/)
    }
  }
})

it('has no conditions between fields, and no union types with objects', () => {
  walk(document, '#', (node, at) => {
    expect(Object.keys(node), at).not.toEqual(expect.arrayContaining(['not']))
    expect(Object.keys(node), at).not.toEqual(expect.arrayContaining(['anyOf']))
    if (Array.isArray(node.type)) expect(node.type, at).not.toContain('object')
    if (Array.isArray(node.enum)) expect([node.type].flat(), at).toContain('string')
  })
})

it('has an example of each call, which matches its schemas', () => {
  const ajv = new Ajv2020({ strict: false, validateFormats: false })
  ajv.addSchema({ $id: 'document', ...document })
  const fits = ({ schema, example }: Node, at: string) => {
    expect(example, at).toBeDefined()
    const check = schema.$ref ? ajv.getSchema(`document${schema.$ref}`)! : ajv.compile(schema)
    expect(check(example) || check.errors, at).toBe(true)
  }
  for (const [at, { requestBody, responses }] of operations) {
    if (requestBody) fits(requestBody.content['application/json'], at)
    const [, answer] = Object.entries<Node>(responses).find(([status]) => status.startsWith('2'))!
    for (const media of Object.values(answer.content ?? {})) fits(media, at)
    for (const { content } of Object.values<Node>(responses)) {
      if (content?.['application/problem+json']) fits(content['application/problem+json'], at)
    }
  }
})

it('has the license, the server, and each way to authenticate', () => {
  expect(document.info.license.name).toBe('MIT')
  expect(document.servers).toHaveLength(1)
  expect(Object.keys(document.components.securitySchemes)).toEqual(['key', 'cookie', 'token'])
})
