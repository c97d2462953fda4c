-- Version 5: tasks that wait for others, and batches.
ALTER TABLE tasks ADD COLUMN waits_for TEXT; -- JSON array of task ids, in the requested order; NULL: none
ALTER TABLE tasks ADD COLUMN on_failure TEXT; -- NULL: 'cancel'
ALTER TABLE tasks ADD COLUMN batch TEXT;
CREATE INDEX tasks_dependent ON tasks (created_at) WHERE status = 'dependent';
CREATE INDEX tasks_batch ON tasks (batch, status) WHERE batch IS NOT NULL;

-- The tasks that a task waits for. outcome: status, type, result and error as JSON; NULL: it is still awaited. It is a
-- copy, so retention may remove the awaited task before the waiting task has run.
CREATE TABLE predecessors (
  successor INTEGER NOT NULL, -- its seq
  place INTEGER NOT NULL,
  id TEXT NOT NULL,
  outcome TEXT,
  PRIMARY KEY (successor, place)
) STRICT, WITHOUT ROWID;
CREATE INDEX predecessors_awaited ON predecessors (id) WHERE outcome IS NULL;

-- total: tasks ever accepted in the batch; kept: those that still exist.
CREATE TABLE batches (batch TEXT PRIMARY KEY, total INTEGER NOT NULL, kept INTEGER NOT NULL) STRICT, WITHOUT ROWID;
