-- Version 21: what is in use of named limits is counted from the tasks in flight alone (limits/units-in-use.ts), by the
-- index that also serves the limits of types and groups. Only tasks that are not ready are found by their lane alone:
-- the lanes of the others are in the rotation. Only lone tasks are found by their age.
DROP TABLE permits;
DROP INDEX tasks_uses;
CREATE INDEX tasks_uses ON tasks (task_group) WHERE uses IS NOT NULL AND (status = 'delayed' OR status = 'dependent');
DROP INDEX tasks_running;
CREATE INDEX tasks_running ON tasks (type, task_group, uses) WHERE status = 'processing';
DROP INDEX tasks_ready_grouped;
CREATE INDEX tasks_ready_grouped ON tasks (type, priority DESC, run_at)
  WHERE task_group <> '' AND status = 'pending' AND lone = 1;
