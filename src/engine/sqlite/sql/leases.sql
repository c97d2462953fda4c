-- A lease is a task that is processing; its fence is the task's number of deliveries.

-- name: start
-- ?1 now, ?2 worker, ?3 lease in ms, ?4 JSON array of seqs. Not those that have waited too long.
UPDATE tasks SET status = 'processing', deliveries = deliveries + 1, started_at = ?1, updated_at = ?1, worker_id = ?2,
  progress = NULL, deadline_at = CASE process_timeout_ms WHEN 0 THEN NULL ELSE ?1 + process_timeout_ms END,
  lease_ms = ?3, expires_at = ?1 + ?3
WHERE seq IN (SELECT value FROM json_each(?4)) AND (deadline_at IS NULL OR deadline_at > ?1)
RETURNING seq, id, type, status, priority, attempts, deliveries, max_retry, queue_timeout_ms, process_timeout_ms,
  created_at, run_at, deadline_at, started_at, updated_at, worker_id, error, tags, idempotency_key, expires_at,
  (SELECT payload FROM payloads WHERE payloads.seq = tasks.seq) AS payload;

-- name: running
-- Of the ids in a JSON array, the tasks that are processing, with what settling needs.
SELECT seq, id, type, status, attempts, deliveries, lost_leases, max_retry, run_at, progress, worker_id, started_at,
  deadline_at, lease_ms, cancel_at
FROM tasks WHERE id IN (SELECT value FROM json_each(?)) AND status = 'processing';

-- name: dueLeases
-- Expired, out of time, or past the grace of a cancel. Scans what is in flight, which is small.
SELECT seq, deadline_at FROM tasks
WHERE status = 'processing' AND (expires_at <= ?1 OR deadline_at <= ?1 OR cancel_at <= ?1 - ?2) LIMIT ?3;

-- name: nextLeaseDue
SELECT min(min(expires_at, ifnull(deadline_at, expires_at), ifnull(cancel_at + ?, expires_at))) AS at
FROM tasks WHERE status = 'processing';

-- name: renewLease
UPDATE tasks SET expires_at = ? WHERE seq = ?;

-- name: requestCancel
UPDATE tasks SET cancel_at = ifnull(cancel_at, ?) WHERE seq = ?;

-- name: untoldCancels
SELECT seq, id, deliveries FROM tasks WHERE worker_id = ? AND cancel_at IS NOT NULL AND cancel_told = 0;

-- name: cancelTold
UPDATE tasks SET cancel_told = 1 WHERE seq = ?;

-- name: inFlight
SELECT count(*) AS n FROM tasks WHERE status = 'processing' AND type = ?;

-- name: holders
SELECT id, worker_id, started_at, expires_at FROM tasks
WHERE status = 'processing' AND type = ? ORDER BY started_at, seq LIMIT 1000;

-- name: runningByWorker
SELECT worker_id, count(*) AS n FROM tasks WHERE status = 'processing' GROUP BY worker_id;
