/** The public API of `xqueue/client`: the typed client, for any JavaScript runtime with `fetch`. */

export type { Batch, BatchState, BatchWait } from './client/batch.ts'
export { type Client, createClient, type ManyTasks, type NewTask, type TaskOf } from './client/client.ts'
export type { ChangesQuery, TaskChange } from './client/event-stream.ts'
export type { Explanation, Holder } from './client/explanation.ts'
export type { Flow, FlowOptions, FlowTask } from './client/flow.ts'
export { TaskUnsuccessful } from './client/result.ts'
export type { Schedule, ScheduleClient, ScheduleOptions } from './client/schedules.ts'
export type { Stats, WorkerInfo } from './client/statistics.ts'
export type { SubmitOptions } from './client/submission.ts'
export type { ListOptions, TaskFilter, TaskList, TaskPage } from './client/task-list.ts'
export type {
  Ceilings,
  Declaration,
  LimitChanges,
  Limits,
  Percentiles,
  Rate,
  TaskType,
  TypeClient,
} from './client/types.ts'
export { type ErrorCode, type ErrorDetails, XQueueError } from './task/errors.ts'
export type { OnFailure, Predecessor } from './task/flow.ts'
export type { Json } from './task/json.ts'
export type { FinalStatus, Status } from './task/status.ts'
export type { Progress } from './task/task.ts'
export type { TaskView as Task } from './task/task-view.ts'
export type { Duration } from './worker/handler.ts'
