-- Lines of the handlers of tasks. A row has the lines of one turn, numbered last - count + 1 … last, oldest first.

-- name: lastLog
SELECT last, total FROM logs WHERE seq = ? ORDER BY last DESC LIMIT 1;

-- name: addLog
INSERT INTO logs (seq, last, count, delivery, attempt, total, body) VALUES (?, ?, ?, ?, ?, ?, ?);

-- name: dropOldLogs
DELETE FROM logs WHERE seq = ?1 AND (last <= ?2 OR total <= ?3);

-- name: firstLog
SELECT last - count AS before FROM logs WHERE seq = (SELECT seq FROM tasks WHERE id = ?) ORDER BY last LIMIT 1;

-- name: logsAfter
SELECT last, count, delivery, attempt, body FROM logs WHERE seq = (SELECT seq FROM tasks WHERE id = ?) AND last > ?
ORDER BY last;

-- name: dropLogs
-- ?1 JSON array of seqs.
DELETE FROM logs WHERE seq IN (SELECT value FROM json_each(?1));
