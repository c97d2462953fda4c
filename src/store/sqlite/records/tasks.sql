-- One statement after each `name:` line; store.ts prepares them all at open.
-- `LIMIT 0 + ?` and `task_group = '' || ?`: SQLite plans a statement again each time a value is bound to a LIMIT, or to
-- a column in the condition of a partial index; that cost ten times as much as the search. It does not do so for an
-- expression.

-- name: insertTask
INSERT INTO tasks (id, type, status, priority, max_retry, queue_timeout_ms, process_timeout_ms, created_at, run_at,
  deadline_at, updated_at, tags, idempotency_key, request, task_group, lone, uses, waits_for, on_failure, batch)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: insertPayload
INSERT INTO payloads (seq, payload) VALUES (?, ?);

-- name: statesBySeq, as arrays
-- ?1 JSON array of seqs. See stateOf.
SELECT seq, id, type, status, attempts, deliveries, lost_leases, max_retry, queue_timeout_ms, run_at, deadline_at,
  cancel_at, worker_id, started_at, lease_ms, progress, error, priority, task_group, waits_for IS NOT NULL,
  lease_secret, uses
FROM tasks WHERE seq IN (SELECT value FROM json_each(?));

-- name: statesById, as arrays
-- ?1 JSON array of ids. The same columns.
SELECT seq, id, type, status, attempts, deliveries, lost_leases, max_retry, queue_timeout_ms, run_at, deadline_at,
  cancel_at, worker_id, started_at, lease_ms, progress, error, priority, task_group, waits_for IS NOT NULL,
  lease_secret, uses
FROM tasks WHERE id IN (SELECT value FROM json_each(?));

-- name: requestByKey
SELECT id, request FROM tasks WHERE idempotency_key = ?;

-- name: heads
-- The next tasks of a type without a group, from the index alone.
SELECT seq, priority, run_at FROM tasks WHERE task_group = '' AND status = 'pending' AND type = ?
ORDER BY priority DESC, run_at, seq LIMIT 0 + ?;

-- name: due
-- Delayed tasks that are due.
SELECT seq, type, priority, run_at, task_group FROM tasks WHERE status = 'delayed' AND run_at <= ?
ORDER BY run_at, seq LIMIT 0 + ?;

-- name: nextReady
SELECT min(run_at) AS at FROM tasks WHERE status = 'delayed';

-- name: promote
UPDATE tasks SET status = 'pending' WHERE seq = ?;

-- name: waitedTooLong
SELECT seq FROM tasks WHERE status = 'pending' AND deadline_at <= ? ORDER BY deadline_at LIMIT 0 + ?;

-- name: nextWaitEnd
SELECT min(deadline_at) AS at FROM tasks WHERE status = 'pending' AND deadline_at IS NOT NULL;

-- name: setProgress
UPDATE tasks SET progress = ?, updated_at = ? WHERE seq = ?;

-- name: settle
-- ?11 to ?13: the state that this was decided on. Changes nothing if the task has changed since. ?14: the time until
-- which it is kept, if its type sets one.
UPDATE tasks SET status = ?1, attempts = ?2, lost_leases = ?3, run_at = ?4, updated_at = ?5, completed_at = ?6,
  result = ?7, error = ?8, timeout_reason = ?9, deadline_at = NULL, lease_ms = NULL, expires_at = NULL,
  lease_secret = NULL, cancel_at = NULL, cancel_told = 0, keep_until = ?14
WHERE seq = ?10 AND status = ?11 AND deliveries = ?12 AND (cancel_at IS NOT NULL) = ?13;

-- name: restart
-- An explicit retry: the task is treated as newly submitted, but keeps its id, its age in lists and its fence. ?3
-- 'pending' or 'dependent'.
UPDATE tasks SET status = ?3, lone = 0, attempts = 0, lost_leases = 0, run_at = ?1, updated_at = ?1,
  deadline_at = CASE WHEN queue_timeout_ms = 0 OR ?3 = 'dependent' THEN NULL ELSE ?1 + queue_timeout_ms END,
  started_at = NULL, completed_at = NULL, worker_id = NULL, progress = NULL, result = NULL, error = NULL,
  timeout_reason = NULL, keep_until = NULL
WHERE seq = ?2;

-- name: oldestFinished
-- Of the tasks with the common retention.
SELECT seq, id, type, status, attempts, completed_at, waits_for IS NOT NULL AS depends, batch FROM tasks
WHERE completed_at IS NOT NULL AND keep_until IS NULL ORDER BY completed_at LIMIT 0 + ?;

-- name: soonestKept
-- Of the tasks whose type sets its own retention.
SELECT seq, id, type, status, attempts, completed_at, waits_for IS NOT NULL AS depends, batch, keep_until FROM tasks
WHERE keep_until IS NOT NULL ORDER BY keep_until LIMIT 0 + ?;

-- name: finishedBySeq
SELECT seq, id, type, status, attempts, created_at, completed_at, waits_for IS NOT NULL AS depends, batch
FROM tasks WHERE seq = ?;

-- name: deleteTask
DELETE FROM tasks WHERE seq = ?;

-- name: deletePayload
DELETE FROM payloads WHERE seq = ?;
