-- The attempts of a task that did not end it, oldest first: n from 1, total: bytes of all bodies up to this one.

-- name: lastAttempt
SELECT n, total, octet_length(body) AS bytes, outcome, delivery FROM attempts WHERE seq = ? ORDER BY n DESC LIMIT 1;

-- name: putAttempt
INSERT OR REPLACE INTO attempts (seq, n, delivery, outcome, total, body) VALUES (?, ?, ?, ?, ?, ?);

-- name: dropOldAttempts
DELETE FROM attempts WHERE seq = ?1 AND (n <= ?2 OR total <= ?3);

-- name: attemptsOf
-- ?1 JSON array of ids.
SELECT t.id, a.n, a.body FROM tasks t JOIN attempts a ON a.seq = t.seq
WHERE t.id IN (SELECT value FROM json_each(?1)) ORDER BY a.seq, a.n;

-- name: dropAttempts
-- ?1 JSON array of seqs.
DELETE FROM attempts WHERE seq IN (SELECT value FROM json_each(?1));
