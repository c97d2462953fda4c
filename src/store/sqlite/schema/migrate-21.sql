-- Version 21: what is in use of named limits is counted from the tasks in flight alone (limits/units-in-use.ts), by the
-- index that also serves the limits of types and groups. Only lone tasks are found by their age.
DROP TABLE permits;
DROP INDEX tasks_running;
CREATE INDEX tasks_running ON tasks (type, task_group, uses) WHERE status = 'processing';
DROP INDEX tasks_ready_grouped;
CREATE INDEX tasks_ready_grouped ON tasks (type, priority DESC, run_at)
  WHERE task_group <> '' AND status = 'pending' AND lone = 1;
