-- name: lastEvent
SELECT ifnull(max(last), 0) AS last FROM events;

-- name: insertEvents
INSERT INTO events (last, count, at, body) VALUES (?, ?, ?, ?);

-- name: eventsAfter
SELECT last, count, at, body FROM events WHERE last > ? ORDER BY last LIMIT 20;

-- name: firstEvents
SELECT last - count + 1 AS first FROM events ORDER BY last LIMIT 1;

-- name: dropEvents
-- Old rows, never the newest one: it keeps the numbering.
DELETE FROM events WHERE last IN (
  SELECT last FROM events WHERE last <= (SELECT max(last) FROM events) - max(?, 1) ORDER BY last LIMIT 0 + ?
);
