-- name: startsSince
-- Starts of a type after a moment: ?1 type, ?2 moment.
SELECT ifnull((SELECT total FROM rate_log WHERE type = ?1 ORDER BY at DESC LIMIT 1), 0)
  - ifnull((SELECT total FROM rate_log WHERE type = ?1 AND at <= ?2 ORDER BY at DESC LIMIT 1), 0) AS n;

-- name: startBack
-- The time of the nth start from the last: ?1 type, ?2 n.
SELECT at FROM rate_log WHERE type = ?1 AND total > (SELECT max(total) FROM rate_log WHERE type = ?1) - ?2
ORDER BY total LIMIT 1;

-- name: logStarts
-- ?1 type, ?2 now, ?3 how many. A clock that was set back does not change the order.
INSERT INTO rate_log (type, at, total) VALUES (
  ?1, max(?2, ifnull((SELECT max(at) FROM rate_log WHERE type = ?1), 0)),
  ifnull((SELECT max(total) FROM rate_log WHERE type = ?1), 0) + ?3
) ON CONFLICT DO UPDATE SET total = excluded.total;

-- name: trimStarts
-- ?1 type, ?2 the moment before which starts do not count. The last row before it stays, because totals are counted
-- from it.
DELETE FROM rate_log WHERE type = ?1 AND at IN (
  SELECT at FROM rate_log
  WHERE type = ?1 AND at < (SELECT max(at) FROM rate_log WHERE type = ?1 AND at <= ?2) ORDER BY at LIMIT 100
);

-- name: dropStarts
DELETE FROM rate_log WHERE type = ?;

-- name: lastStart
SELECT ifnull(max(at), 0) AS at FROM rate_log WHERE type = ?;

-- name: idleStarts
-- Names that begin with ?1 and whose last start was before ?2; one index look-up for each name.
WITH RECURSIVE names (type) AS (
  SELECT min(type) FROM rate_log WHERE type > ?1 AND type < ?1 || char(0x10ffff)
  UNION ALL
  SELECT (SELECT min(type) FROM rate_log WHERE type > names.type AND type < ?1 || char(0x10ffff)) FROM names
  WHERE names.type IS NOT NULL
)
SELECT type FROM names
WHERE type IS NOT NULL AND (SELECT max(at) FROM rate_log WHERE rate_log.type = names.type) < ?2;

-- name: forgetStarts
-- Oldest first: the last total must remain the last.
DELETE FROM rate_log WHERE type = ?1 AND at IN (SELECT at FROM rate_log WHERE type = ?1 ORDER BY at LIMIT 1000);
