import { type Contender, numbered, type OpenContender, workUntil } from './contenders/contender.ts'

/** One figure of one contender, in a process of its own: `node measure.ts <contender> <where> <measure>`. */
const MEASURES: Record<string, (contender: Contender) => Promise<number>> = {
  'batch submit of 1000': async (contender) => {
    await contender.submit(numbered(1_000))
    return rate(50_000, async () => {
      for (let batch = 0; batch < 50; batch++) await contender.submit(numbered(1_000))
    })
  },
  '100 concurrent submits': async (contender) => {
    await contender.submit(numbered(1_000))
    let left = 20_000
    return rate(left, async () => {
      const submitting = async () => {
        while (left-- > 0) await contender.submit(numbered(1))
      }
      await Promise.all(Array.from({ length: 100 }, submitting))
    })
  },
  'processing, concurrency 1': (contender) => process(contender, 1, 5_000),
  'processing, concurrency 10': (contender) => process(contender, 10, 20_000),
  'processing, concurrency 100': (contender) => process(contender, 100, 50_000),
}

const FAILING: typeof MEASURES = {
  'fail once, then succeed': (contender) => process(contender, 100, 10_000, true),
}

/** On a store that holds something already: what is submitted is processed after, so that it keeps its size. */
const ON_TOP: typeof MEASURES = {
  'submit on top': async (contender) => {
    await contender.submit(numbered(1_000))
    return rate(49_000, () => submit(contender, 49_000))
  },
  'process on top': (contender) => working(contender, 100, 50_000),
}

async function process(contender: Contender, concurrency: number, count: number, failOnce = false): Promise<number> {
  await submit(contender, count)
  return working(contender, concurrency, count, failOnce)
}

/** From the start of a worker until the last handler has ended; its stop is not counted. */
async function working(contender: Contender, concurrency: number, count: number, failOnce = false): Promise<number> {
  let stop: (() => Promise<unknown>) | undefined
  const figure = await rate(count, async () => {
    stop = await workUntil(contender, concurrency, count, failOnce)
  })
  await stop?.()
  return figure
}

async function submit(contender: Contender, count: number): Promise<void> {
  for (let submitted = 0; submitted < count; submitted += 1_000) {
    await contender.submit(numbered(1_000, submitted))
  }
}

async function rate(count: number, work: () => Promise<void>): Promise<number> {
  const started = performance.now()
  await work()
  return (count / (performance.now() - started)) * 1_000
}

export const MEASURE_NAMES = Object.keys(MEASURES)
export const FAILING_NAMES = Object.keys(FAILING)

if (import.meta.main) {
  const [, , name, where, measure] = globalThis.process.argv
  const { open } = (await import(`./contenders/${name}.ts`)) as { open: OpenContender }
  const contender = await open(where!)
  const [fill, count, kind = 'waiting'] = measure!.split(' ')
  let figure = 0
  if (fill === 'fill') await (contender.fill ?? submit)(contender, Number(count), kind)
  else figure = await { ...MEASURES, ...FAILING, ...ON_TOP }[measure!]!(contender)
  await contender.close()
  const { user, system } = globalThis.process.cpuUsage()
  console.log(JSON.stringify({ figure, cpuUs: user + system }))
  globalThis.process.exit(0)
}
