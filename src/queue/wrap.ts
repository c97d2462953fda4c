import type { Queue } from './queue.ts'

type Methods = Omit<Queue, 'url' | 'turnsAtOnce' | 'restore'>

/**
 * A queue around a queue, with the methods in `own` instead of its. Only the methods in `forwarded` are passed on, so a
 * new method of the queue does not compile until each wrapper has decided about it: forwarded, it could show what the
 * wrapper hides.
 */
export function wrap<Name extends keyof Methods>(
  queue: Queue,
  forwarded: readonly Name[],
  own: Omit<Methods, Name>,
): Queue {
  const passed = forwarded.map((name) => [name, queue[name].bind(queue)])
  return { url: queue.url, turnsAtOnce: queue.turnsAtOnce, ...Object.fromEntries(passed), ...own } as Queue
}
