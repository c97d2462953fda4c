-- name: insertLease
INSERT INTO leases (seq, fence, type, worker_id, since, lease_ms, expires_at, deadline_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?);

-- name: heldLease
-- A lease by its token, with what settling needs of its task.
SELECT l.*, t.id, t.attempts, t.lost_leases, t.max_retry, t.run_at, t.progress
FROM tasks t JOIN leases l ON l.seq = t.seq WHERE t.id = ? AND l.fence = ?;

-- name: leaseBySeq
SELECT l.*, t.id, t.attempts, t.lost_leases, t.max_retry, t.run_at, t.progress
FROM leases l JOIN tasks t ON t.seq = l.seq WHERE l.seq = ?;

-- name: dueLeases
-- Expired, out of time, or past the grace of a cancel. Scans what is in flight, which is small.
SELECT seq, expires_at, deadline_at, cancel_at FROM leases
WHERE expires_at <= ?1 OR deadline_at <= ?1 OR cancel_at <= ?1 - ?2 LIMIT ?3;

-- name: nextLeaseDue
SELECT min(min(expires_at, ifnull(deadline_at, expires_at), ifnull(cancel_at + ?, expires_at))) AS at FROM leases;

-- name: deleteLease
DELETE FROM leases WHERE seq = ?;

-- name: renewLease
UPDATE leases SET expires_at = ? WHERE seq = ?;

-- name: requestCancel
UPDATE leases SET cancel_at = ifnull(cancel_at, ?) WHERE seq = ?;

-- name: untoldCancels
SELECT l.seq, l.fence, t.id FROM leases l JOIN tasks t ON t.seq = l.seq
WHERE l.worker_id = ? AND l.cancel_at IS NOT NULL AND l.cancel_told = 0;

-- name: cancelTold
UPDATE leases SET cancel_told = 1 WHERE seq = ?;

-- name: inFlight
SELECT count(*) AS n FROM leases WHERE type = ?;

-- name: holders
SELECT t.id, l.worker_id, l.since, l.expires_at FROM leases l JOIN tasks t ON t.seq = l.seq
WHERE l.type = ? ORDER BY l.since, l.seq LIMIT 1000;

-- name: leasesByWorker
SELECT worker_id, count(*) AS n FROM leases GROUP BY worker_id;
