-- A lease is a task that is processing; its fence is the task's number of deliveries with a secret.

-- name: start, as arrays
-- ?1 now, ?2 worker, ?3 lease in ms, ?4 JSON array of seqs, ?5 secret of the tokens. Leaves out tasks that have waited
-- too long. See startedOf.
UPDATE tasks SET status = 'processing', lone = 0, deliveries = deliveries + 1, started_at = ?1, updated_at = ?1,
  worker_id = ?2, progress = NULL,
  deadline_at = CASE process_timeout_ms WHEN 0 THEN NULL ELSE ?1 + process_timeout_ms END,
  lease_ms = ?3, expires_at = ?1 + ?3, lease_secret = ?5
WHERE seq IN (SELECT value FROM json_each(?4)) AND (deadline_at IS NULL OR deadline_at > ?1)
RETURNING seq, id, type, priority, attempts, deliveries, max_retry, queue_timeout_ms, process_timeout_ms, created_at,
  run_at, deadline_at, error, tags, idempotency_key, lost_leases, task_group, waits_for, on_failure, batch,
  uses, (SELECT payload FROM payloads WHERE payloads.seq = tasks.seq);

-- name: dueLeases
-- Expired, past the deadline, or past the grace of a cancel. Scans the tasks in flight, which are few.
SELECT seq FROM tasks
WHERE status = 'processing' AND (expires_at <= ?1 OR deadline_at <= ?1 OR cancel_at <= ?1 - ?2) LIMIT 0 + ?3;

-- name: nextLeaseDue
SELECT min(min(expires_at, ifnull(deadline_at, expires_at), ifnull(cancel_at + ?, expires_at))) AS at
FROM tasks WHERE status = 'processing';

-- name: renewLease
UPDATE tasks SET expires_at = ? WHERE seq = ?;

-- name: requestCancel
UPDATE tasks SET cancel_at = ifnull(cancel_at, ?) WHERE seq = ?;

-- name: untoldCancels
SELECT seq FROM tasks WHERE worker_id = ? AND cancel_at IS NOT NULL AND cancel_told = 0;

-- name: cancelTold
UPDATE tasks SET cancel_told = 1 WHERE seq = ?;

-- name: inFlight
SELECT count(*) AS n FROM tasks WHERE status = 'processing' AND type = ?;

-- name: holders
SELECT id, worker_id, started_at, expires_at, task_group FROM tasks
WHERE status = 'processing' AND type = ? ORDER BY started_at, seq LIMIT 1000;

-- name: holdersInGroup
-- In all lanes of a group.
SELECT id, worker_id, started_at, expires_at, task_group FROM tasks
WHERE status = 'processing' AND type = ?1 AND task_group >= '' || ?2 AND task_group < ?2 || ' '
ORDER BY started_at, seq LIMIT 1000;

-- name: runningByWorker
SELECT worker_id, count(*) AS n FROM tasks WHERE status = 'processing' GROUP BY worker_id;
