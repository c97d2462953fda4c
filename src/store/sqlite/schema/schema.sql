-- Version 1; migrate-2.sql and the later migrations extend it. Times are milliseconds since the epoch.
-- A task's row is small and changes twice or more; its payload never changes, so it has its own table.
-- status: the six public ones, 'delayed' for a pending task whose run_at has not come, and 'dependent' for a task that
-- waits for others.
CREATE TABLE tasks (
  seq INTEGER PRIMARY KEY, -- order of submission
  id TEXT NOT NULL UNIQUE,
  type TEXT NOT NULL,
  status TEXT NOT NULL,
  priority INTEGER NOT NULL,
  attempts INTEGER NOT NULL DEFAULT 0,
  deliveries INTEGER NOT NULL DEFAULT 0, -- never reset: it is the fence of the task's leases
  lost_leases INTEGER NOT NULL DEFAULT 0,
  max_retry INTEGER NOT NULL,
  queue_timeout_ms INTEGER NOT NULL,
  process_timeout_ms INTEGER NOT NULL,
  timeout_reason TEXT,
  created_at INTEGER NOT NULL,
  run_at INTEGER NOT NULL,
  deadline_at INTEGER, -- pending: when its wait for the first start ends; processing: when the attempt does
  started_at INTEGER,
  updated_at INTEGER NOT NULL,
  completed_at INTEGER,
  worker_id TEXT,
  progress TEXT,
  result TEXT,
  error TEXT,
  tags TEXT,
  idempotency_key TEXT,
  request TEXT, -- the first request that used the idempotency key
  -- The lease, and so the permit, of a task that is processing: worker_id holds it since started_at.
  lease_ms INTEGER,
  expires_at INTEGER,
  cancel_at INTEGER, -- when a cancel was requested
  cancel_told INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE payloads (seq INTEGER PRIMARY KEY, payload TEXT NOT NULL) STRICT;

-- Each index holds only the tasks in the state that it is queried for, so it does not grow with the others. Each ends
-- with seq, as every index does. Limits are counted from tasks_running.
CREATE INDEX tasks_ready ON tasks (type, priority DESC, run_at) WHERE status = 'pending';
CREATE INDEX tasks_delayed ON tasks (run_at) WHERE status = 'delayed';
CREATE INDEX tasks_running ON tasks (type) WHERE status = 'processing';
CREATE INDEX tasks_wait_deadline ON tasks (deadline_at) WHERE status = 'pending' AND deadline_at IS NOT NULL;
CREATE INDEX tasks_cancel ON tasks (worker_id) WHERE cancel_at IS NOT NULL;
CREATE INDEX tasks_finished ON tasks (completed_at) WHERE completed_at IS NOT NULL;
CREATE INDEX tasks_unsuccessful ON tasks (status) 
  WHERE status = 'failed' OR status = 'canceled' OR status = 'timeout'; -- IN would cost each update a temporary table
CREATE UNIQUE INDEX tasks_idempotency ON tasks (idempotency_key) WHERE idempotency_key IS NOT NULL;

-- max_concurrency_source: 'handler' may be replaced when a worker starts, 'operator' may not.
CREATE TABLE types (
  type TEXT PRIMARY KEY,
  declared INTEGER NOT NULL DEFAULT 0,
  last_seen INTEGER NOT NULL DEFAULT 0, -- when a worker last served it
  max_concurrency INTEGER,
  max_concurrency_source TEXT NOT NULL DEFAULT 'handler',
  paused INTEGER NOT NULL DEFAULT 0,
  retry_delays_ms TEXT NOT NULL,
  retry_jitter REAL NOT NULL,
  payload_schema TEXT,
  spec_defaults TEXT NOT NULL DEFAULT '{}'
) STRICT, WITHOUT ROWID;

-- Number of tasks kept, by type and status; the step that changes the tasks changes it.
CREATE TABLE counts (type TEXT, status TEXT, n INTEGER NOT NULL, PRIMARY KEY (type, status)) STRICT, WITHOUT ROWID;

CREATE TABLE workers (
  id TEXT PRIMARY KEY,
  host TEXT NOT NULL,
  pid INTEGER NOT NULL,
  types TEXT NOT NULL,
  concurrency INTEGER NOT NULL,
  started_at INTEGER NOT NULL,
  last_seen INTEGER NOT NULL,
  processed INTEGER NOT NULL DEFAULT 0,
  failed INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

-- The outbox: one row holds up to 500 events of one transaction, numbered last - count + 1 … last.
CREATE TABLE events (last INTEGER PRIMARY KEY, count INTEGER NOT NULL, at INTEGER NOT NULL, body TEXT NOT NULL) STRICT;

-- Tasks that finished in each slot of ten seconds, with histograms of wait and run; each process writes once a second.
CREATE TABLE rates (
  type TEXT, slot INTEGER, finished INTEGER NOT NULL, wait TEXT NOT NULL, run TEXT NOT NULL, PRIMARY KEY (type, slot)
) STRICT, WITHOUT ROWID;
