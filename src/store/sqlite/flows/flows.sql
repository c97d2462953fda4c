-- name: endingById
-- The state of a task that another task is to wait for.
SELECT id, type, status, result, error FROM tasks WHERE id = ?;

-- name: statusById
SELECT status FROM tasks WHERE id = ?;

-- name: insertPredecessor
INSERT INTO predecessors (successor, place, id, outcome, copy, bytes) VALUES (?, ?, ?, ?, ?, ?);

-- name: insertCopy
INSERT INTO copies (outcome) VALUES (?);

-- name: anyAwaited
SELECT 1 FROM predecessors WHERE outcome IS NULL LIMIT 1;

-- name: someSuccessorsOf
-- The tasks that wait for a task, oldest first, behind a given one, a bounded number.
SELECT DISTINCT p.successor AS seq, t.status, t.on_failure
FROM predecessors p JOIN tasks t ON t.seq = p.successor
WHERE p.outcome IS NULL AND p.id = ? AND p.successor > ? ORDER BY p.successor LIMIT 0 + ?;

-- name: successorsOf
SELECT DISTINCT t.id, p.successor FROM predecessors p JOIN tasks t ON t.seq = p.successor
WHERE p.outcome IS NULL AND p.id = ? ORDER BY p.successor LIMIT 0 + ?;

-- name: putOff
INSERT INTO put_off (id, behind) VALUES (?, ?);

-- name: firstPutOff
SELECT n, id, behind FROM put_off ORDER BY n LIMIT 1;

-- name: dropPutOff
DELETE FROM put_off WHERE n = ?;

-- name: countSuccessors
SELECT count(*) AS n FROM predecessors WHERE outcome IS NULL AND id = ?;

-- name: setPredecessor
UPDATE predecessors SET outcome = ?, copy = ?, bytes = ? WHERE successor = ? AND id = ? AND outcome IS NULL;

-- name: awaitedBy
-- The tasks that a task still waits for.
SELECT id FROM predecessors INDEXED BY predecessors_waiting
WHERE successor = ? AND outcome IS NULL ORDER BY place LIMIT 0 + ?;

-- name: goneOf
-- Whether a task that it waits for was removed before it could succeed.
SELECT 1 FROM predecessors WHERE successor = ? AND outcome = 'null' LIMIT 1;

-- name: predecessorsOf
-- Small outcomes complete; of large ones status and type. Versions before 12 stored all of them complete.
SELECT id, outcome, copy, bytes FROM predecessors WHERE successor = ? ORDER BY place;

-- name: predecessorOf
SELECT p.id, ifnull(c.outcome, p.outcome) AS outcome FROM predecessors p LEFT JOIN copies c ON c.n = p.copy
WHERE p.successor = ? AND p.id = ? LIMIT 1;

-- name: copyOf
SELECT outcome FROM copies WHERE n = ?;

-- name: copiesFor
SELECT copy FROM predecessors WHERE successor = ? AND copy IS NOT NULL;

-- name: copiesOf
SELECT DISTINCT copy FROM predecessors WHERE id = ? AND outcome IS NOT NULL AND copy IS NOT NULL;

-- name: dropCopy
-- Deletes a copy unless another task uses it.
DELETE FROM copies WHERE n = ?1 AND NOT EXISTS (SELECT 1 FROM predecessors WHERE copy = ?1);

-- name: blankCopies
-- Removes result and error from the outcomes that tasks have waited for; status and type stay.
UPDATE predecessors SET outcome = ?, copy = NULL, bytes = 0
WHERE id = ? AND outcome IS NOT NULL AND outcome <> 'null';

-- name: dropPredecessors
DELETE FROM predecessors WHERE successor = ?;

-- name: release
UPDATE tasks SET status = ?, run_at = ?, deadline_at = ?, updated_at = ? WHERE seq = ?;

-- name: addToBatch
INSERT INTO batches (batch, total, kept) VALUES (?, 1, 1)
ON CONFLICT DO UPDATE SET total = total + 1, kept = kept + 1;

-- name: leaveBatch
UPDATE batches SET kept = kept - 1 WHERE batch = ?;

-- name: dropBatch
DELETE FROM batches WHERE batch = ? AND kept = 0;

-- name: batchByName
SELECT total FROM batches WHERE batch = ?;

-- name: countsOfBatch
SELECT status, count(*) AS n FROM tasks WHERE batch = ? GROUP BY status;
