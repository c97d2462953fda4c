-- Version 11: finished tasks may have their own retention, by type and status.
ALTER TABLE types ADD COLUMN retention TEXT NOT NULL DEFAULT '{"set":{},"handler":{}}';
ALTER TABLE tasks ADD COLUMN keep_until INTEGER; -- of a finished task; NULL: the common retention
DROP INDEX tasks_finished;
CREATE INDEX tasks_finished ON tasks (completed_at) WHERE completed_at IS NOT NULL AND keep_until IS NULL;
CREATE INDEX tasks_kept ON tasks (keep_until) WHERE keep_until IS NOT NULL;
