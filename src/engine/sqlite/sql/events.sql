-- name: lastEvent
SELECT ifnull(max(last), 0) AS last FROM events;

-- name: insertEvents
INSERT INTO events (last, count, at, body) VALUES (?, ?, ?, ?);

-- name: eventsAfter
SELECT last, count, at, body FROM events WHERE last > ? ORDER BY last LIMIT 20;

-- name: firstEvents
SELECT last - count + 1 AS first, at FROM events ORDER BY last LIMIT 1;

-- name: dropEvents
-- Old rows, by their number (?1 are kept) or age (?2), never the newest one: it keeps the numbering.
DELETE FROM events WHERE last IN (
  SELECT last FROM events WHERE last < (SELECT max(last) FROM events)
    AND (last <= (SELECT max(last) FROM events) - max(?1, 1) OR at <= ?2) ORDER BY last LIMIT 0 + ?3
);
