-- name: touchWorker
INSERT INTO workers (id, host, pid, types, concurrency, started_at, last_seen, processed, failed)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET types = excluded.types, concurrency = excluded.concurrency, last_seen = excluded.last_seen,
  processed = processed + excluded.processed, failed = failed + excluded.failed;

-- name: dropWorker
DELETE FROM workers WHERE id = ?;

-- name: dropWorkersUnseen
DELETE FROM workers WHERE last_seen <= ?;

-- name: liveWorkers
SELECT * FROM workers WHERE last_seen > ? ORDER BY started_at, id;
