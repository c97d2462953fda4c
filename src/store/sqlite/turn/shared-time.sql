-- Positions of lanes in types whose groups share running time; migrate-20.sql describes the columns.

-- name: laneTime
SELECT served, pace FROM ring WHERE type = ? AND priority = ? AND task_group = ?;

-- name: turnClock
SELECT at, pace FROM ring_clocks WHERE type = ? AND priority = ?;

-- name: advanceClock
INSERT INTO ring_clocks (type, priority, at) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET at = max(at, excluded.at);

-- name: addTime
-- ?1 type, ?2 priority, ?3 lane, ?4 running time, ?5 expected time without a mean of the lane, ?6 the clock: the time
-- that a task ran replaces the one that was expected at its start.
INSERT INTO ring (type, priority, task_group, state, served, pace)
VALUES (?1, ?2, ?3, CASE ?3 WHEN '' THEN 'alone' ELSE 'empty' END, ?6 + ?4, ?4)
ON CONFLICT DO UPDATE SET served = max(1, served + ?4 - max(1, cast(round(ifnull(pace, ?5)) AS INTEGER))),
  pace = ifnull(pace, ?4) + (?4 - ifnull(pace, ?4)) / 8;

-- name: addTimeBeside
-- ?1 type, ?2 priority, ?3 lane, ?4 running time, ?5 group: the other lanes of the group.
UPDATE ring SET served = served + ?4
WHERE type = ?1 AND task_group >= '' || ?5 AND task_group < ?5 || ' ' AND priority = ?2 AND task_group <> ?3
  AND served > 0;

-- name: addPace
UPDATE ring_clocks SET pace = ifnull(pace, ?3) + (?3 - ifnull(pace, ?3)) / 8 WHERE type = ?1 AND priority = ?2;

-- name: dropClocksOf
DELETE FROM ring_clocks WHERE type = ?;

-- name: dropClocksIdle
-- A type with nothing ready or running needs no order.
DELETE FROM ring_clocks WHERE NOT EXISTS (
  SELECT 1 FROM counts WHERE counts.type = ring_clocks.type AND status IN ('pending', 'processing') AND n > 0
);

-- name: loneJoin
INSERT INTO ring (type, priority, task_group, state, since, since_seq)
SELECT type, priority, task_group, 'ready', run_at, seq FROM tasks
WHERE status = 'pending' AND task_group <> '' AND type = ? AND lone = 1
ON CONFLICT DO UPDATE SET state = 'ready', blocked_by = NULL, need = NULL;

-- name: loneEnd
UPDATE tasks SET lone = 0 WHERE status = 'pending' AND task_group <> '' AND type = ? AND lone = 1;
