-- name: typeByName
SELECT * FROM types WHERE type = ?;

-- name: allTypes
SELECT * FROM types ORDER BY type;

-- name: insertType
INSERT OR IGNORE INTO types (type, retry_delays_ms, retry_jitter) VALUES (?, ?, ?);

-- name: countServed
SELECT count(*) AS n FROM types WHERE last_seen > ?;

-- name: dropUnusedTypes
-- Deletes types that have nothing but a name, and that no worker has served since ?1.
DELETE FROM types WHERE last_seen <= ?1 AND declared = 0 AND paused = 0 AND ceilings = '{}'
  AND retention = '{"set":{},"handler":{}}'
  AND max_concurrency_source = 'handler' AND group_concurrency_source = 'handler' AND rate_source = 'handler'
  AND max_concurrency IS NULL AND group_concurrency IS NULL AND rate_max IS NULL
  AND payload_schema IS NULL AND spec_defaults = '{}'
  AND NOT EXISTS (SELECT 1 FROM counts WHERE counts.type = types.type)
  AND NOT EXISTS (SELECT 1 FROM documents WHERE documents.type = types.type);

-- name: setHandler
UPDATE types SET retry_delays_ms = ?2, retry_jitter = ?3, payload_schema = ?4, spec_defaults = ?7, last_seen = ?5,
  max_concurrency = CASE max_concurrency_source WHEN 'handler' THEN ?6 ELSE max_concurrency END,
  group_concurrency = CASE group_concurrency_source WHEN 'handler' THEN ?8 ELSE group_concurrency END,
  rate_max = CASE rate_source WHEN 'handler' THEN ?9 ELSE rate_max END,
  rate_per_ms = CASE rate_source WHEN 'handler' THEN ?10 ELSE rate_per_ms END
WHERE type = ?1;

-- name: setLimit
UPDATE types SET max_concurrency = ?, max_concurrency_source = 'operator' WHERE type = ?;

-- name: setGroupLimit
UPDATE types SET group_concurrency = ?, group_concurrency_source = 'operator' WHERE type = ?;

-- name: setRate
UPDATE types SET rate_max = ?, rate_per_ms = ?, rate_source = 'operator' WHERE type = ?;

-- name: setPaused
UPDATE types SET paused = ? WHERE type = ?;

-- name: setCeilings
UPDATE types SET ceilings = ? WHERE type = ?;

-- name: setRetention
UPDATE types SET retention = ? WHERE type = ?;

-- name: declare
UPDATE types SET declared = ? WHERE type = ?;

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
