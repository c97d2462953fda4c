-- Version 2: groups of tasks within a type, which are served in rotation and may have their own limit; a rate of
-- starts. '' is no group: a constant that a partial index can name in its condition and still answer from the index
-- alone.
ALTER TABLE tasks ADD COLUMN task_group TEXT NOT NULL DEFAULT '';

-- Tasks without a group cost the same as before: only tasks_ready holds them; the next three indexes hold the others.
DROP INDEX tasks_ready;
CREATE INDEX tasks_ready ON tasks (type, priority DESC, run_at) WHERE task_group = '' AND status = 'pending';
CREATE INDEX tasks_ready_grouped ON tasks (type, priority DESC, run_at) WHERE task_group <> '' AND status = 'pending';
CREATE INDEX tasks_ready_in_group ON tasks (type, task_group, priority DESC, run_at)
  WHERE task_group <> '' AND status = 'pending';
CREATE INDEX tasks_running_in_group ON tasks (type, task_group) WHERE task_group <> '' AND status = 'processing';

-- Each has its own source, like max_concurrency.
ALTER TABLE types ADD COLUMN group_concurrency INTEGER;
ALTER TABLE types ADD COLUMN group_concurrency_source TEXT NOT NULL DEFAULT 'handler';
ALTER TABLE types ADD COLUMN rate_max INTEGER;
ALTER TABLE types ADD COLUMN rate_per_ms INTEGER;
ALTER TABLE types ADD COLUMN rate_source TEXT NOT NULL DEFAULT 'handler';

-- The rotation of groups (group-scheduler.ts). A group with a ready task has a row that is 'ready' or 'full'.
-- state: 'ready' may be served; 'full' waits for a permit of its group; 'empty' has nothing ready and may be deleted;
-- 'alone' is the row of the tasks without a group, which are found without it.
CREATE TABLE ring (
  type TEXT NOT NULL,
  task_group TEXT NOT NULL,
  priority INTEGER NOT NULL,
  state TEXT NOT NULL,
  served INTEGER NOT NULL DEFAULT 0, -- the higher the later; 0: never
  since INTEGER NOT NULL DEFAULT 0, -- if never served: no later than run_at and seq of its first ready task
  since_seq INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (type, task_group, priority)
) STRICT, WITHOUT ROWID;
CREATE INDEX ring_next ON ring (state, type, priority DESC, served, since, since_seq);
CREATE INDEX ring_served ON ring (served);

-- Starts of the types that have a rate. total: the number of starts up to and including this moment, so the number
-- between two moments is one subtraction.
CREATE TABLE rate_log (
  type TEXT NOT NULL, at INTEGER NOT NULL, total INTEGER NOT NULL, PRIMARY KEY (type, at)
) STRICT, WITHOUT ROWID;
CREATE INDEX rate_log_total ON rate_log (type, total);
