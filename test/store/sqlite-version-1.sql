-- Version 1. Times are milliseconds since the epoch.
-- A task's row is thin and changes twice or more; its payload never does, so it stands apart.
-- status: the six public ones, and 'delayed' for a pending task whose run_at has not come.
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
  request TEXT, -- what the idempotency key was first used for
  -- The lease, and so the permit, of a task that is processing: worker_id holds it since started_at.
  lease_ms INTEGER,
  expires_at INTEGER,
  cancel_at INTEGER, -- when it was asked to stop
  cancel_told INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE payloads (seq INTEGER PRIMARY KEY, payload TEXT NOT NULL) STRICT;

-- Each index holds only the tasks in the state that asks for it, so that none grows with the others.
-- Each ends with seq, as every index does. tasks_running is what limits are counted from.
CREATE INDEX tasks_ready ON tasks (type, priority DESC, run_at) WHERE status = 'pending';
CREATE INDEX tasks_delayed ON tasks (run_at) WHERE status = 'delayed';
CREATE INDEX tasks_running ON tasks (type) WHERE status = 'processing';
CREATE INDEX tasks_wait_deadline ON tasks (deadline_at) WHERE status = 'pending' AND deadline_at IS NOT NULL;
CREATE INDEX tasks_cancel ON tasks (worker_id) WHERE cancel_at IS NOT NULL;
CREATE INDEX tasks_finished ON tasks (completed_at) WHERE completed_at IS NOT NULL;
CREATE INDEX tasks_unsuccessful ON tasks (status) 
  WHERE status = 'failed' OR status = 'canceled' OR status = 'timeout'; -- IN would cost each update a temporary table
CREATE UNIQUE INDEX tasks_idempotency ON tasks (idempotency_key) WHERE idempotency_key IS NOT NULL;

-- max_concurrency_source: 'handler' may be replaced by a worker's start, 'operator' may not.
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

-- Tasks kept, by type and status, changed in the step that changes the tasks.
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

-- What finished in each slot of ten seconds, with histograms of wait and run; written once a second by each process.
CREATE TABLE rates (
  type TEXT, slot INTEGER, finished INTEGER NOT NULL, wait TEXT NOT NULL, run TEXT NOT NULL, PRIMARY KEY (type, slot)
) STRICT, WITHOUT ROWID;

-- What was in it when it was last closed: a type with a limit of the operator's, and a task in each state.
INSERT INTO types (type, declared, last_seen, max_concurrency, max_concurrency_source, retry_delays_ms, retry_jitter)
VALUES ('t', 1, 1700000000000, 4, 'operator', '[1000]', 0.2);
INSERT INTO counts (type, status, n) VALUES
  ('t', 'pending', 2), ('t', 'delayed', 1), ('t', 'processing', 1), ('t', 'success', 1);
INSERT INTO tasks (seq, id, type, status, priority, max_retry, queue_timeout_ms, process_timeout_ms, created_at, run_at,
  updated_at, deliveries, started_at, completed_at, worker_id, result, idempotency_key, request, lease_ms, expires_at)
VALUES
  (1, 'done', 't', 'success', 0, 3, 0, 0, 1700000000000, 1700000000000, 1700000000000, 1, 1700000000000, 1700000000000,
    'w0', '{"ok":true}', NULL, NULL, NULL, NULL),
  (2, 'held', 't', 'processing', 0, 3, 0, 0, 1700000000000, 1700000000000, 1700000000000, 1, 1700000000000, NULL,
    'w0', NULL, NULL, NULL, 30000, 1700000030000),
  (3, 'low', 't', 'pending', 0, 3, 0, 0, 1700000000000, 1700000000000, 1700000000000, 0, NULL, NULL,
    NULL, NULL, NULL, NULL, NULL, NULL),
  (4, 'high', 't', 'pending', 5, 3, 0, 0, 1700000000000, 1700000000000, 1700000000000, 0, NULL, NULL,
    NULL, NULL, 'k', '{"delayMs":0,"maxRetry":3,"payload":{},"priority":5,"processTimeoutMs":0,"queueTimeoutMs":0,"runAt":null,"tags":{},"type":"t"}', NULL, NULL),
  (5, 'late', 't', 'delayed', 9, 3, 0, 0, 1700000000000, 1700000060000, 1700000000000, 0, NULL, NULL,
    NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO payloads (seq, payload) VALUES (1, '{}'), (2, '{}'), (3, '{"n":3}'), (4, '{}'), (5, '{}');
PRAGMA application_id = 0x58517565;
PRAGMA user_version = 1;
