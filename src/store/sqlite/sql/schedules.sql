-- name: schedules
SELECT * FROM schedules ORDER BY id;

-- name: scheduleById
SELECT * FROM schedules WHERE id = ?;

-- name: dueSchedules
SELECT * FROM schedules WHERE next_at <= ? ORDER BY next_at LIMIT 0 + ?;

-- name: nextTick
SELECT min(next_at) AS at FROM schedules WHERE next_at IS NOT NULL;

-- name: nextTickBut
SELECT min(next_at) AS at FROM schedules
 WHERE next_at IS NOT NULL AND id NOT IN (SELECT value FROM json_each(?));

-- name: countSchedules
SELECT count(*) AS n FROM schedules;

-- name: putSchedule
INSERT OR REPLACE INTO schedules (id, body, next_at, last_at, last_task_id) VALUES (?, ?, ?, ?, ?);

-- name: moveSchedule
UPDATE schedules SET next_at = ?2 WHERE id = ?1;

-- name: ranSchedule
UPDATE schedules SET last_at = ?2, last_task_id = ?3 WHERE id = ?1;

-- name: dropSchedule
DELETE FROM schedules WHERE id = ?;

-- name: taskStatus
SELECT status FROM tasks WHERE id = ?;
