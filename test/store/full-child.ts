import { openQueue } from '../../src/queue/open.ts'
import { completeSpec } from '../../src/task/task.ts'

/** Submits until the disk is full (the test bounds the size of its files), then reports the errors. */
const queue = await openQueue(`sqlite:${process.argv[2]}`)
await queue.configureType('t', { declared: true })
const batch = Array.from({ length: 100 }, () =>
  completeSpec({ type: 't', payload: 'x'.repeat(1_000), queueTimeoutMs: 0 }),
)
const accepted: string[] = []
let code = ''
let message = ''
while (code === '') {
  await queue.submit(batch).then(
    (answers) => accepted.push(...answers.map(({ task }) => task.id)),
    (error: { code: string; message: string }) => {
      code = error.code
      message = error.message
    },
  )
}
const [first] = await queue.get([accepted[0]!])
console.log(JSON.stringify({ code, message, accepted, readable: first !== null }))
await queue.close()
