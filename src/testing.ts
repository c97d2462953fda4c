/** The public API for tests of your handlers, `xqueue/testing`: see docs/testing.md. */

export { createTestQueue, type EngineFailure, TestQueue, type TestQueueOptions } from './testing/test-queue.ts'
