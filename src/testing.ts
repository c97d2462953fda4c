/** What XQueue offers to tests of your handlers, as `xqueue/testing`: see docs/testing.md. */

export { createTestQueue, type EngineFailure, TestQueue, type TestQueueOptions } from './testing/test-queue.ts'
