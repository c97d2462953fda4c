-- Named limits; migrate-18.sql describes the tables.

-- name: limitByName
SELECT * FROM limits WHERE name = ?;

-- name: allLimits
SELECT * FROM limits ORDER BY name;

-- name: countLimits
SELECT count(*) AS n FROM limits;

-- name: putLimit
INSERT INTO limits (name, max, max_source, rate_max, rate_per_ms, rate_source, paused, held_until)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET max = excluded.max, max_source = excluded.max_source, rate_max = excluded.rate_max,
  rate_per_ms = excluded.rate_per_ms, rate_source = excluded.rate_source, paused = excluded.paused,
  held_until = excluded.held_until;

-- name: dropLimit
DELETE FROM limits WHERE name = ?;

-- name: limitsOfGroups
-- The limits of single groups: names from ?1 to ?2.
SELECT name, max FROM limits WHERE name > ? AND name < ?;

-- name: holdOfKey
SELECT held_until FROM limit_holds WHERE name = ?;

-- name: holdKey
INSERT INTO limit_holds (name, held_until) VALUES (?, ?)
ON CONFLICT DO UPDATE SET held_until = max(held_until, excluded.held_until);

-- name: dropHoldsOfKeys
DELETE FROM limit_holds WHERE held_until <= ?;

-- name: dropHoldOfKey
DELETE FROM limit_holds WHERE name = ?;

-- name: usesInFlight
-- The tasks in flight that use limits, by what they use; from the index alone.
SELECT uses, count(*) AS n FROM tasks INDEXED BY tasks_running
WHERE status = 'processing' AND uses IS NOT NULL GROUP BY type, task_group, uses;

-- name: holdersByAge
-- All tasks in flight that use limits.
SELECT id, type, worker_id, started_at, expires_at, task_group, uses FROM tasks
WHERE status = 'processing' AND uses IS NOT NULL ORDER BY started_at, seq;

-- name: usesBySeq
SELECT uses FROM tasks WHERE seq = ?;

-- name: lanesWithReady
-- The lanes with limits that may have ready tasks.
SELECT DISTINCT type, task_group AS lane FROM ring
WHERE state <> 'empty' AND instr(task_group, char(31)) > 0 LIMIT 0 + ?;

-- name: lanesNotReady
-- The lanes with limits that have tasks which are not ready yet; one index look-up for each.
WITH RECURSIVE lanes (lane) AS (
  SELECT min(task_group) FROM tasks WHERE uses IS NOT NULL AND (status = 'delayed' OR status = 'dependent')
  UNION ALL
  SELECT (
    SELECT min(task_group) FROM tasks
    WHERE uses IS NOT NULL AND (status = 'delayed' OR status = 'dependent') AND task_group > lane
  ) FROM lanes WHERE lane IS NOT NULL
)
SELECT lane FROM lanes WHERE lane IS NOT NULL;

-- name: readyInLane
-- Ready tasks of a lane, counted up to ?3.
SELECT count(*) AS n FROM (
  SELECT 1 FROM tasks WHERE status = 'pending' AND task_group <> '' AND type = ? AND task_group = '' || ? LIMIT 0 + ?
);

-- name: readyOfLane
SELECT id FROM tasks
WHERE status = 'pending' AND task_group <> '' AND type = ? AND task_group = '' || ? LIMIT 0 + ?;

-- name: ringBlocked
-- A lane is set aside: limit, need, type, priority, lane.
UPDATE ring SET state = 'blocked', blocked_by = ?, need = ? WHERE type = ? AND priority = ? AND task_group = ?;

-- name: ringUnblock
UPDATE ring SET state = 'ready', blocked_by = NULL, need = NULL
WHERE type = ? AND priority = ? AND task_group = ? AND +state = 'blocked';

-- name: anyBlocked
SELECT 1 FROM ring WHERE blocked_by IS NOT NULL LIMIT 1;

-- name: blockedTypes
-- The types of which lanes wait for a limit; one index look-up for each.
WITH RECURSIVE types (type) AS (
  SELECT min(type) FROM ring WHERE blocked_by = '' || ?1
  UNION ALL
  SELECT (SELECT min(type) FROM ring WHERE blocked_by = '' || ?1 AND ring.type > types.type)
  FROM types WHERE types.type IS NOT NULL
)
SELECT type FROM types WHERE type IS NOT NULL;

-- name: blockedLanes
-- The lanes of a type that wait for a limit, in the order of the rotation.
SELECT priority, task_group, need FROM ring INDEXED BY ring_blocked WHERE blocked_by = '' || ? AND type = ?
ORDER BY priority DESC, served, since, since_seq LIMIT 0 + ?;

-- name: leastNeed
SELECT priority, task_group, need FROM ring INDEXED BY ring_need WHERE blocked_by = '' || ? AND type = ?
ORDER BY need LIMIT 1;

-- name: blockedBetween
-- The limits from ?1 to ?2 for which lanes wait.
SELECT DISTINCT blocked_by AS name FROM ring WHERE blocked_by > '' || ? AND blocked_by < '' || ?;

-- name: waitForLimit
INSERT INTO limit_waits (name, until) VALUES (?, ?)
ON CONFLICT DO UPDATE SET until = min(until, excluded.until) WHERE excluded.until < until;

-- name: nextLimitWait
SELECT min(until) AS at FROM limit_waits;

-- name: endLimitWaits
DELETE FROM limit_waits WHERE until <= ? RETURNING name;

-- name: correctStarts
-- ?1 name, ?2 the start, ?3 units more or less.
UPDATE rate_log SET total = total + ?3 WHERE type = ?1 AND at >= ?2;
