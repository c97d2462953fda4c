/** The public API of `xqueue/client`: the typed client, for any JavaScript runtime with `fetch`. */

export { type Client, createClient, type TaskOf, TaskUnsuccessful } from './client/client.ts'
export type { ChangesQuery, TaskChange } from './client/event-stream.ts'
export type { Batch, BatchState, Flow, FlowOptions, FlowTask } from './client/flow.ts'
export type { ClientSchedule, ScheduleOptions } from './client/schedules.ts'
export type { SubmitOptions } from './client/submission.ts'
export { type ErrorCode, XQueueError } from './task/errors.ts'
export type { OnFailure, Predecessor } from './task/flow.ts'
export type { Status } from './task/status.ts'
export type { Progress, Task } from './task/task.ts'
export type { Duration } from './worker/handler.ts'
