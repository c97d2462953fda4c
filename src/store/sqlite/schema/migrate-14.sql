-- Version 14: a group whose only ready task came while no other one was stored in `ring` needs no row there. lone = 1
-- marks this task; the value counts only while the task is ready.
ALTER TABLE tasks ADD COLUMN lone INTEGER NOT NULL DEFAULT 0;
DROP INDEX tasks_ready_grouped;
CREATE INDEX tasks_ready_grouped ON tasks (type, lone, priority DESC, run_at)
  WHERE task_group <> '' AND status = 'pending';
-- One index of the tasks in flight serves the limit of the type and the limit of each group.
DROP INDEX tasks_running;
DROP INDEX tasks_running_in_group;
CREATE INDEX tasks_running ON tasks (type, task_group) WHERE status = 'processing';
