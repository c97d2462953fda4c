/** Layout of a flow: layers from left to right; each task is to the right of its predecessors. */

export interface GraphNode {
  id: string
  /** Ids of predecessors; those that are not shown are ignored. */
  after: readonly string[]
}

export interface Graph {
  width: number
  height: number
  /** With the left upper corner of each, layer by layer, from top to bottom. */
  nodes: { id: string; x: number; y: number }[]
  /** One SVG path for each node that others wait for, to all of these, and one of the arrows at its ends. */
  lines: { from: string; path: string; arrows: string }[]
}

/** Tasks drawn as one node, under the id of the first. */
export interface Stack<T extends GraphNode> extends GraphNode {
  tasks: T[]
}

export const NODE = { width: 172, height: 50 }
const GAP = { x: 56, y: 14 }
/** What a line takes of a layer that it passes through. */
const PASS_HEIGHT = 10
/** Room for the outline of a node at the edge. */
const MARGIN = 6
const ARROW = { length: 6, half: 4 }
const SWEEPS = 8
/** Number of equal tasks that are still drawn separately. */
const ALIKE_MAX = 6

/**
 * A node, or the place where a node's line passes through a layer on its way to later ones. All of them share that one
 * line, so that a task that many wait for draws a trunk with branches.
 */
interface Spot {
  id: string
  isNode: boolean
  layer: number
  /** Of its middle. */
  y: number
  before: Spot[]
  after: Spot[]
}

/**
 * Puts together what differs in nothing but its name: many tasks of a type that wait for the same and are waited for by
 * the same. What one of them waits for, and who waits for it, is so for all, so the first can stand for them.
 *
 * @param apart ids of tasks that are drawn by themselves
 */
export function stack<T extends GraphNode & { type: string }>(
  tasks: readonly T[],
  apart: ReadonlySet<string>,
): Stack<T>[] {
  const successors = new Map<string, string[]>(tasks.map(({ id }) => [id, []]))
  for (const { id, after } of tasks) for (const other of after) successors.get(other)?.push(id)
  const alike = new Map<string, T[]>()
  for (const task of tasks) {
    const { id, type, after } = task
    const key = apart.has(id) ? id : JSON.stringify([type, [...after].sort(), successors.get(id)])
    const others = alike.get(key)
    if (others) others.push(task)
    else alike.set(key, [task])
  }
  return [...alike.values()]
    .flatMap((group) => (group.length > ALIKE_MAX ? [group] : group.map((task) => [task])))
    .map((group) => ({ id: group[0]!.id, after: group[0]!.after, tasks: group }))
}

export function layOut(given: readonly GraphNode[]): Graph {
  const nodes = new Map(given.map(({ id, after }) => [id, { id, after: new Set(after) }]))
  for (const { after } of nodes.values()) for (const id of after) if (!nodes.has(id)) after.delete(id)
  const layers = spotsOf(nodes)
  untangle(layers)
  align(layers)
  const spots = layers.flat()
  const top = Math.min(...spots.map((spot) => spot.y - heightOf(spot) / 2)) - MARGIN
  for (const spot of spots) spot.y = Math.round(spot.y - top)
  const drawn = spots.filter(({ isNode }) => isNode)
  return {
    width: layers.length === 0 ? 0 : leftOf(layers.length - 1) + NODE.width + MARGIN,
    height: Math.max(0, ...spots.map((spot) => spot.y + heightOf(spot) / 2 + MARGIN)),
    nodes: drawn.map(({ id, layer, y }) => ({ id, x: leftOf(layer), y: y - NODE.height / 2 })),
    lines: drawn.filter(({ after }) => after.length > 0).map((spot) => ({ from: spot.id, ...lineFrom(spot) })),
  }
}

type Nodes = ReadonlyMap<string, { id: string; after: ReadonlySet<string> }>

/** Each node in the layer that its longest way from the left needs, and the passes of lines that skip layers. */
function spotsOf(nodes: Nodes): Spot[][] {
  const known = new Map<string, number>()
  const layerOf = (id: string): number => {
    if (!known.has(id)) {
      known.set(id, 0) // Servers accept no cycles; a link that closes one would be omitted.
      known.set(id, Math.max(0, ...[...nodes.get(id)!.after].map((other) => layerOf(other) + 1)))
    }
    return known.get(id)!
  }
  const layers: Spot[][] = []
  const put = (id: string, layer: number, isNode: boolean): Spot => {
    const spot = { id, isNode, layer, y: 0, before: [], after: [] }
    while (layers.length <= layer) layers.push([])
    layers[layer]!.push(spot)
    return spot
  }
  const inOrder = [...nodes.keys()].sort((a, b) => layerOf(a) - layerOf(b))
  /** For each node its own spot, then one in each layer that its line passes. */
  const trunks = new Map<string, Spot[]>()
  for (const id of inOrder) {
    const spot = put(id, layerOf(id), true)
    trunks.set(id, [spot])
    for (const other of nodes.get(id)!.after) {
      if (layerOf(other) >= spot.layer) continue
      const trunk = trunks.get(other)!
      while (trunk.at(-1)!.layer < spot.layer - 1) {
        const last = trunk.at(-1)!
        const pass = put(other, last.layer + 1, false)
        link(last, pass)
        trunk.push(pass)
      }
      link(trunk[spot.layer - 1 - trunk[0]!.layer]!, spot)
    }
  }
  return layers
}

function link(from: Spot, to: Spot): void {
  from.after.push(to)
  to.before.push(from)
}

/** Orders each layer by the middle of what its spots are linked to, to and fro, so that few lines cross. */
function untangle(layers: Spot[][]): void {
  const place = new Map<Spot, number>()
  const number = (layer: Spot[]) => {
    for (const [index, spot] of layer.entries()) place.set(spot, (index + 0.5) / layer.length)
  }
  for (const layer of layers) number(layer)
  sweep(layers, (layer, side) => {
    const wanted = new Map(layer.map((spot) => [spot, mean(spot[side].map((other) => place.get(other)!))]))
    const of = (spot: Spot) => wanted.get(spot) ?? place.get(spot)!
    layer.sort((a, b) => of(a) - of(b))
    number(layer)
  })
}

/** Moves each spot as near to the middle of what it is linked to as its neighbours let it. */
function align(layers: Spot[][]): void {
  for (const layer of layers) spread(layer, [])
  sweep(layers, (layer, side) => {
    const wanted = layer.map((spot) => mean(spot[side].map(({ y }) => y)) ?? spot.y)
    spread(layer, wanted)
  })
}

function sweep(layers: Spot[][], visit: (layer: Spot[], side: 'before' | 'after') => void): void {
  for (let n = 0; n < SWEEPS; n += 1) {
    if (n % 2 === 0) for (const layer of layers.slice(1)) visit(layer, 'before')
    else for (const layer of layers.slice(0, -1).reverse()) visit(layer, 'after')
  }
}

/**
 * Places a layer's spots in their order without overlap, with the least squares of the ways from where they want to be:
 * those that would be too near to each other move as one block, to the middle of what they want.
 */
function spread(layer: Spot[], wanted: number[]): void {
  const blocks: { sum: number; count: number }[] = []
  const offsets: number[] = []
  const tooHigh = () => {
    const [above, last] = blocks.slice(-2)
    return above && last && last.sum / last.count < above.sum / above.count
  }
  layer.forEach((spot, index) => {
    const above = layer[index - 1]
    offsets.push(above ? offsets[index - 1]! + (heightOf(above) + heightOf(spot)) / 2 + GAP.y : 0)
    blocks.push({ sum: (wanted[index] ?? 0) - offsets[index]!, count: 1 })
    while (tooHigh()) {
      const { sum, count } = blocks.pop()!
      blocks.at(-1)!.sum += sum
      blocks.at(-1)!.count += count
    }
  })
  let index = 0
  for (const { sum, count } of blocks) {
    for (let n = 0; n < count; n += 1, index += 1) layer[index]!.y = sum / count + offsets[index]!
  }
}

function lineFrom(spot: Spot): { path: string; arrows: string } {
  const right = leftOf(spot.layer) + NODE.width
  let [path, arrows] = ['', '']
  for (const next of spot.after) {
    const left = leftOf(next.layer)
    const middle = (right + left) / 2
    path += `M${right} ${spot.y}C${middle} ${spot.y} ${middle} ${next.y} ${left} ${next.y}`
    if (next.isNode) {
      const { length, half } = ARROW
      arrows += `M${left - length} ${next.y - half}L${left} ${next.y}L${left - length} ${next.y + half}`
    } else {
      const rest = lineFrom(next)
      path += `H${left + NODE.width}${rest.path}`
      arrows += rest.arrows
    }
  }
  return { path, arrows }
}

function leftOf(layer: number): number {
  return MARGIN + layer * (NODE.width + GAP.x)
}

function heightOf({ isNode }: Spot): number {
  return isNode ? NODE.height : PASS_HEIGHT
}

function mean(values: number[]): number | undefined {
  return values.length === 0 ? undefined : values.reduce((sum, value) => sum + value, 0) / values.length
}
