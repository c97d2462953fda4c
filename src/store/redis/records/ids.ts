/**
 * A task's id is a UUIDv7 that contains the task's location, so that an id is enough to find its keys:
 *
 *     tttttttt-tttt-7nnn-8nnn-llllppcccccc
 *
 * t: time of submission in ms; n: its number in that ms, so that ids sort in the order of submission; l: its lane; p:
 * its partition; c: a checksum of all of them, which identifies ids of this queue without a query.
 */
export interface Place {
  partition: number
  /** `<lane>.<ms>-<n>`, the name of the task in scripts. */
  ref: string
}

/** The name of a task over all partitions, as scripts use it: `<partition>/<ref>`. */
export function nameOf({ partition, ref }: Place): string {
  return `${partition}/${ref}`
}

/** The time in ms at which the task that scripts call `ref` was accepted. */
export function acceptedAtOf(ref: string): number {
  return Number(ref.slice(ref.indexOf('.') + 1, ref.indexOf('-')))
}

/** The id of the task with this name. */
export function idOfName(name: string): string {
  const slash = name.indexOf('/')
  return idOfRef(Number(name.slice(0, slash)), name.slice(slash + 1))
}

/** The least n: it keeps all n at ten digits, so that entry ids sort as text. */
const N_MIN = 1_000_000_000
const N_SPAN = 1 << 24
const ID = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}$/

export function idOf(partition: number, lane: number, ms: number, n: number): string {
  const number = n - N_MIN
  if (number < 0 || number >= N_SPAN) throw new Error(`more than ${N_SPAN} tasks in one millisecond`)
  if (ms !== latest.ms) {
    const time = hex(ms, 12)
    latest = { ms, head: `${time.slice(0, 8)}-${time.slice(8)}-7` }
  }
  const count = hex(number, 6)
  const where = hex(lane * 256 + partition, 6)
  const check = hex(checkOf(partition, lane, ms, number), 6)
  return `${latest.head}${count.slice(0, 3)}-8${count.slice(3)}-${where}${check}`
}

/** Ids that are written together mostly have the same time. */
let latest = { ms: -1, head: '' }

/** The id of the task that scripts call `ref`. */
export function idOfRef(partition: number, ref: string): string {
  const dot = ref.indexOf('.')
  const dash = ref.indexOf('-', dot)
  return idOf(partition, Number(ref.slice(0, dot)), Number(ref.slice(dot + 1, dash)), Number(ref.slice(dash + 1)))
}

/** The location of a task; null for an id of another queue, or another text. */
export function placeOf(id: string): Place | null {
  if (!ID.test(id)) return null
  const read = (from: number, to: number) => Number.parseInt(id.slice(from, to), 16)
  const ms = Number.parseInt(id.slice(0, 8) + id.slice(9, 13), 16)
  const number = Number.parseInt(id.slice(15, 18) + id.slice(20, 23), 16)
  const [lane, partition, check] = [read(24, 28), read(28, 30), read(30, 36)]
  if (check !== checkOf(partition, lane, ms, number)) return null
  return { partition, ref: `${lane}.${ms}-${number + N_MIN}` }
}

/** Proposes the n of the next ids: increasing within this process, and different in any two processes. */
export class Numbers {
  #next = Math.floor(Math.random() * (N_SPAN / 4))

  take(count: number): number {
    const first = this.#next
    this.#next = (first + count) % (N_SPAN / 4)
    return first + N_MIN
  }
}

/** With the given number of digits, at most 12. */
function hex(value: number, digits: number): string {
  return value.toString(16).padStart(digits, '0')
}

function checkOf(partition: number, lane: number, ms: number, number: number): number {
  let mixed = Math.imul(ms >>> 0, 0x9e3779b1) ^ Math.imul(number + 1, 0x85ebca77) ^ Math.imul(lane + 1, 0xc2b2ae3d)
  mixed = Math.imul(mixed ^ (mixed >>> 15) ^ partition, 0x27d4eb2f) ^ Math.floor(ms / 2 ** 32)
  return (mixed ^ (mixed >>> 13)) & 0xffffff
}
