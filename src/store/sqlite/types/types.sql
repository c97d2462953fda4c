-- name: typeByName
SELECT * FROM types WHERE type = ?;

-- name: allTypes
SELECT * FROM types ORDER BY type;

-- name: insertType
INSERT OR IGNORE INTO types (type, retry_delays_ms, retry_jitter) VALUES (?, ?, ?);

-- name: countServed
SELECT count(*) AS n FROM types WHERE last_seen > ?;

-- name: dropUnusedTypes
-- Deletes types that have nothing but a name and no tasks, and that no worker has served since ?1.
DELETE FROM types WHERE last_seen <= ?1 AND declared = 0 AND paused = 0 AND ifnull(held_until, 0) <= ?1
  AND ceilings = '{}' AND retention = '{"set":{},"handler":{}}'
  AND max_concurrency_source = 'handler' AND group_concurrency_source = 'handler'
  AND group_turns_source = 'handler' AND rate_source = 'handler'
  AND max_concurrency IS NULL AND group_concurrency IS NULL AND group_turns = 'tasks' AND rate_max IS NULL
  AND payload_schema IS NULL AND spec_defaults = '{}'
  AND NOT EXISTS (SELECT 1 FROM counts WHERE counts.type = types.type AND n > 0)
  AND NOT EXISTS (SELECT 1 FROM documents WHERE documents.type = types.type);

-- name: dropCountsOfNoType
DELETE FROM counts WHERE n = 0 AND NOT EXISTS (SELECT 1 FROM types WHERE types.type = counts.type);

-- name: putType
UPDATE types SET declared = ?, paused = ?, held_until = ?, max_concurrency = ?, max_concurrency_source = ?,
  group_concurrency = ?, group_concurrency_source = ?, group_turns = ?, group_turns_source = ?,
  rate_max = ?, rate_per_ms = ?, rate_source = ?, retry_delays_ms = ?, retry_jitter = ?, payload_schema = ?,
  spec_defaults = ?, ceilings = ?, retention = ?
WHERE type = ?;

-- name: holdType
UPDATE types SET held_until = max(ifnull(held_until, 0), ?) WHERE type = ?;

-- name: typeSeen
UPDATE types SET last_seen = ? WHERE type = ?;

-- name: addCount
INSERT INTO counts (type, status, n) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET n = n + excluded.n;

-- name: allCounts
SELECT type, status, n FROM counts;

-- name: countedTypes
SELECT DISTINCT type FROM counts;

-- name: countsOf
SELECT type, status, n FROM counts WHERE type = ?;

-- name: countIn
-- The number of tasks in the given stored statuses: ?1 JSON array of them.
SELECT ifnull(sum(n), 0) AS n FROM counts WHERE status IN (SELECT value FROM json_each(?));

-- name: rateSlot
SELECT finished, wait, run FROM rates WHERE type = ? AND slot = ?;

-- name: putRateSlot
INSERT INTO rates (type, slot, finished, wait, run) VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET finished = excluded.finished, wait = excluded.wait, run = excluded.run;

-- name: recentRates
SELECT type, slot, finished, wait, run FROM rates WHERE slot > ?;

-- name: recentRatesOf
SELECT type, slot, finished, wait, run FROM rates WHERE slot > ? AND type = ?;

-- name: dropRates
DELETE FROM rates WHERE slot <= ?;

-- name: historySlot
SELECT body FROM history WHERE ring = ? AND type = ? AND slot = ?;

-- name: putHistorySlot
INSERT OR REPLACE INTO history (ring, type, slot, body) VALUES (?, ?, ?, ?);

-- name: historyOf
SELECT slot, body FROM history WHERE ring = ? AND type = ? AND slot > ? ORDER BY slot;

-- name: typesInHistory
SELECT count(*) AS n FROM history WHERE ring = ? AND slot = ?;

-- name: dropHistory
DELETE FROM history WHERE ring = ? AND slot <= ?;
