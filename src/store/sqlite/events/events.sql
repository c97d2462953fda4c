-- name: lastEvent
SELECT ifnull(max(last), 0) AS last FROM events;

-- name: lastEvents
-- The last entry: its number, and the bytes of all entries up to it.
SELECT last, total FROM events ORDER BY last DESC LIMIT 1;

-- name: insertEvents
INSERT INTO events (last, count, at, body, total) VALUES (?, ?, ?, ?, ?);

-- name: eventsAfter
SELECT last, count, at, body FROM events WHERE last > ? ORDER BY last LIMIT 20;

-- name: firstEvents
SELECT last - count + 1 AS first, at, total - length(CAST(body AS BLOB)) AS before FROM events ORDER BY last LIMIT 1;

-- name: dropEvents
-- Deletes old rows by number (?1 are kept), age (?2) or bytes (?3 are kept), but never the newest one, which keeps the
-- numbering. The search ends at the first row that is kept, because all three increase with the rows.
DELETE FROM events WHERE last IN (
  SELECT last FROM events WHERE last < (
    SELECT last FROM events WHERE last = (SELECT max(last) FROM events) OR (
      last > (SELECT max(last) FROM events) - max(?1, 1) AND at > ?2
      AND (SELECT total FROM events ORDER BY last DESC LIMIT 1) - total + length(CAST(body AS BLOB)) <= ?3
    ) ORDER BY last LIMIT 1
  ) ORDER BY last LIMIT 0 + ?4
);

-- name: endedUntil
SELECT ended_until AS until FROM removals;

-- name: noteRemoved
UPDATE removals SET ended_until = max(ended_until, ?);

-- name: notKept
-- ?1 JSON array of task ids. Returns the ids of tasks that are not kept.
SELECT value AS id FROM json_each(?) WHERE NOT EXISTS (SELECT 1 FROM tasks WHERE tasks.id = value);

-- name: eventsNaming
-- Events that may name tasks whose names begin with ?1; ?2 is when the first was accepted, ?3 when the last ended.
SELECT last, body FROM events WHERE at >= ?2 - 10000 AND at <= ?3 + 10000 AND instr(body, ?1) > 0;

-- name: rewriteEvents
UPDATE events SET body = ? WHERE last = ?;
