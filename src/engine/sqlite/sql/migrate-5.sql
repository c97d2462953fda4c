-- Version 5: tasks that wait for others, and batches.
ALTER TABLE tasks ADD COLUMN waits_for TEXT; -- JSON array of task ids, in the order asked for; NULL: none
ALTER TABLE tasks ADD COLUMN on_failure TEXT; -- NULL: 'cancel'
ALTER TABLE tasks ADD COLUMN batch TEXT;
CREATE INDEX tasks_dependent ON tasks (created_at) WHERE status = 'dependent';
CREATE INDEX tasks_batch ON tasks (batch, status) WHERE batch IS NOT NULL;

-- What a task waits for. outcome: how that ended, as JSON [status, type, result, error]; NULL: it is still waited for.
-- A copy, so that retention may remove the one before the other has run.
CREATE TABLE predecessors (
  successor INTEGER NOT NULL, -- its seq
  place INTEGER NOT NULL,
  id TEXT NOT NULL,
  outcome TEXT,
  PRIMARY KEY (successor, place)
) STRICT, WITHOUT ROWID;
CREATE INDEX predecessors_awaited ON predecessors (id) WHERE outcome IS NULL;

-- total: tasks that were ever accepted with it; kept: those that are still here.
CREATE TABLE batches (batch TEXT PRIMARY KEY, total INTEGER NOT NULL, kept INTEGER NOT NULL) STRICT, WITHOUT ROWID;
