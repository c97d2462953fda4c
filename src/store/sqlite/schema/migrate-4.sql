-- Version 4: schedules. body: the schedule as JSON, without the values in the other columns.
CREATE TABLE schedules (
  id TEXT PRIMARY KEY, body TEXT NOT NULL, next_at INTEGER, last_at INTEGER, last_task_id TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX schedules_next ON schedules (next_at) WHERE next_at IS NOT NULL;
