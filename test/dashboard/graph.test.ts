import { expect, it } from 'vitest'
import { type Graph, type GraphNode, layOut, NODE, stack } from '../../dashboard/src/graph.ts'

/** `{ c: 'ab' }`: c waits for a and b. */
function nodesOf(after: Record<string, string>): GraphNode[] {
  return Object.entries(after).map(([id, ids]) => ({ id, after: [...ids] }))
}

function placesOf({ nodes }: Graph): Record<string, { x: number; y: number }> {
  return Object.fromEntries(nodes.map(({ id, x, y }) => [id, { x, y }]))
}

/** Numbers that look random and are the same each time. */
function* randoms(seed: number): Generator<number, never> {
  for (let state = seed; ; ) {
    state = (state * 1_103_515_245 + 12_345) % 2 ** 31
    yield state / 2 ** 31
  }
}

function expectApart({ nodes, width, height }: Graph): void {
  for (const [index, { x, y }] of nodes.entries()) {
    expect([x >= 0, y >= 0, x + NODE.width <= width, y + NODE.height <= height]).toEqual([true, true, true, true])
    for (const other of nodes.slice(index + 1)) {
      if (other.x === x) expect(Math.abs(other.y - y)).toBeGreaterThan(NODE.height)
    }
  }
}

it('draws a chain as a straight line from left to right', () => {
  const { a, b, c } = placesOf(layOut(nodesOf({ c: 'b', b: 'a', a: '' })))
  expect([a!.y, b!.y]).toEqual([b!.y, c!.y])
  expect(a!.x + NODE.width).toBeLessThan(b!.x)
  expect(b!.x - a!.x).toBe(c!.x - b!.x)
})

it('places a task after its longest path, in the middle of its predecessors', () => {
  const graph = layOut(nodesOf({ a: '', b: 'a', c: 'a', d: 'b', e: 'acd' }))
  const { a, b, c, d, e } = placesOf(graph)
  expect(b!.x).toBe(c!.x)
  expect([a!.x, b!.x, d!.x]).toEqual([...[a!.x, b!.x, d!.x]].sort((x, y) => x - y))
  expect(e!.x).toBeGreaterThan(d!.x)
  const diamond = placesOf(layOut(nodesOf({ a: '', b: 'a', c: 'a', d: 'bc' })))
  expect(diamond.a!.y).toBe(diamond.d!.y)
  expect(diamond.b!.y + diamond.c!.y).toBe(2 * diamond.a!.y)
  expectApart(graph)
})

it('crosses no lines if that is possible', () => {
  const random = randoms(1)
  const pairs = Array.from({ length: 30 }, (_, n) => ({ n, key: random.next().value })).sort((a, b) => a.key - b.key)
  const first = pairs.map(({ n }) => ({ id: `first${n}`, after: [] }))
  const second = Array.from({ length: 30 }, (_, n) => ({ id: `second${n}`, after: [`first${n}`] }))
  const places = placesOf(layOut([...first, ...second]))
  const order = (name: string) => pairs.map(({ n }) => n).sort((a, b) => places[name + a]!.y - places[name + b]!.y)
  expect(order('first')).toEqual(order('second'))
  expect(pairs.map(({ n }) => n)).not.toEqual(Array.from({ length: 30 }, (_, n) => n))
})

it('routes a line that skips a layer past the tasks there, one line for all successors of a task', () => {
  const { nodes, lines } = layOut(nodesOf({ a: '', b: 'a', c: 'ab', d: 'abc', e: 'abc' }))
  const { path } = lines.find(({ from }) => from === 'a')!
  const passes = [...path.matchAll(/ (\d+)H(\d+)/g)].map(([, y, right]) => [Number(y), Number(right)] as const)
  expect(passes).toHaveLength(2)
  for (const [y, right] of passes) {
    const there = nodes.filter(({ x }) => x + NODE.width === right)
    expect(there.length).toBeGreaterThan(0)
    for (const node of there) expect(y < node.y || y > node.y + NODE.height).toBe(true)
  }
})

it('keeps 200 tasks apart that wait for some or all earlier tasks', () => {
  const random = randoms(2)
  const all = Array.from({ length: 200 }, (_, n) => `task${n}`)
  const some = all.map((id, n) => ({ id, after: all.slice(0, n).filter(() => random.next().value < 0.02) }))
  expectApart(layOut(some))
  const chain = layOut(all.map((id, n) => ({ id, after: all.slice(0, n) })))
  expect(new Set(chain.nodes.map(({ x }) => x)).size).toBe(200)
  expectApart(chain)
})

it('ignores predecessors that are not drawn, and duplicates', () => {
  const { nodes, lines } = layOut([
    { id: 'a', after: ['elsewhere'] },
    { id: 'b', after: ['a', 'a'] },
  ])
  expect(nodes).toHaveLength(2)
  expect(lines).toHaveLength(1)
  expect(lines[0]!.path.match(/C/g)).toHaveLength(1)
  expect(layOut([])).toEqual({ width: 0, height: 0, nodes: [], lines: [] })
})

it('terminates for tasks that wait for each other, which no server accepts', () => {
  expect(layOut(nodesOf({ a: 'b', b: 'a', c: 'c' })).nodes).toHaveLength(3)
})

it('groups many tasks with the same predecessors and successors under the id of the first', () => {
  const pages = Array.from({ length: 20 }, (_, n) => ({ id: `page${n}`, type: 'page', after: ['start'] }))
  const start = { id: 'start', type: 'start', after: [] }
  const end = { id: 'end', type: 'end', after: pages.map(({ id }) => id) }
  const late = { id: 'late', type: 'end', after: ['page7'] }
  const drawn = (apart: string[], ...more: (typeof end)[]) =>
    stack([start, ...pages, end, ...more], new Set(apart)).map(({ id, tasks }) => [id, tasks.length])
  expect(drawn([])).toEqual([
    ['start', 1],
    ['page0', 20],
    ['end', 1],
  ])
  expect(drawn(['page0'])).toEqual([
    ['start', 1],
    ['page0', 1],
    ['page1', 19],
    ['end', 1],
  ])
  expect(drawn([], late)).toContainEqual(['page7', 1])
  expect(drawn(pages.map(({ id }) => id))).toHaveLength(22)
  const { nodes, lines } = layOut(stack([start, ...pages, end], new Set()))
  expect(nodes.map(({ id }) => id)).toEqual(['start', 'page0', 'end'])
  expect(lines.map(({ from }) => from)).toEqual(['start', 'page0'])
})

it('does not group few tasks, or tasks of different types or predecessors', () => {
  const few = (type: string, after: string[]) =>
    Array.from({ length: 4 }, (_, n) => ({ id: `${type}${after}${n}`, type, after }))
  const tasks = [...few('a', []), ...few('b', []), ...few('a', ['b0']), ...few('a', ['a0'])]
  expect(stack(tasks, new Set())).toHaveLength(tasks.length)
})
