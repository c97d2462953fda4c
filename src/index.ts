/** The public API of XQueue. The command line is `xqueue`, the wire format is HTTP. */

export { type Client, createClient, type TaskOf, TaskUnsuccessful } from './client/client.ts'
export type { ChangesQuery, TaskChange } from './client/event-stream.ts'
export type { Batch, BatchState, Flow, FlowOptions, FlowTask } from './client/flow.ts'
export type { ClientSchedule, ScheduleOptions } from './client/schedules.ts'
export type { SubmitOptions } from './client/submission.ts'
export { type ErrorCode, XQueueError } from './task/errors.ts'
export type { OnFailure, Predecessor } from './task/flow.ts'
export { DoNotRetry, RetryAfter } from './task/retry.ts'
export type { Status } from './task/status.ts'
export type { Progress, Task } from './task/task.ts'
export { type Duration, defineHandlers, type Handler, type HandlerContext, type TaskWith } from './worker/handler.ts'
