-- The rotation of groups; migrate-2.sql describes the columns.

-- name: groupsInUse
SELECT EXISTS (SELECT 1 FROM ring WHERE type = ?1) AS ring, EXISTS (
  SELECT 1 FROM tasks WHERE status = 'pending' AND task_group <> '' AND type = ?1 AND lone = 1
) AS lone;

-- name: ringReady
SELECT 1 FROM ring WHERE state = 'ready' AND type = ? LIMIT 1;

-- name: loneReady
SELECT 1 FROM tasks WHERE status = 'pending' AND task_group <> '' AND type = ? AND lone = 1 LIMIT 1;

-- name: readyInGroup
-- A ready task of a group and priority, apart from the one given.
SELECT seq, run_at FROM tasks
WHERE status = 'pending' AND task_group <> '' AND type = ? AND priority = ? AND task_group = '' || ? AND seq <> ?
LIMIT 1;

-- name: setLone
UPDATE tasks SET lone = ? WHERE seq = ?;

-- name: loneHeads
-- The only ready tasks of their groups, as `heads` returns those without a group.
SELECT seq, priority, run_at FROM tasks
WHERE status = 'pending' AND task_group <> '' AND type = ? AND lone = 1
ORDER BY priority DESC, run_at, seq LIMIT 0 + ?;

-- name: lonePriority
-- As ringPriority.
SELECT max(priority) AS priority FROM tasks
WHERE status = 'pending' AND task_group <> '' AND type = ? AND lone = 1 AND priority < ?;

-- name: loneNext
-- As ringNext: ?1 whether groups have a limit, ?2 type, ?3 priority, ?4 how many.
SELECT task_group, 0 AS served, run_at AS since, seq AS since_seq, seq AS first_seq, run_at AS first_run_at,
  CASE WHEN ?1 THEN (SELECT count(*) FROM tasks o WHERE o.status = 'processing'
    AND o.type = t.type AND o.task_group >= t.task_group AND o.task_group < t.task_group || ' ') END AS in_flight
FROM tasks t WHERE status = 'pending' AND task_group <> '' AND type = ?2 AND lone = 1 AND priority = ?3
ORDER BY run_at, seq LIMIT 0 + ?4;

-- name: ringPriority
-- The highest priority below another at which a group may be served.
SELECT max(priority) AS priority FROM ring WHERE state = 'ready' AND type = ? AND priority < ?;

-- name: ringNext
-- ?1 whether groups have a limit, ?2 type, ?3 priority, ?4 how many: the next lanes in the rotation, each with its
-- first ready task and, if there is a limit, the tasks in flight of its group, in all lanes.
SELECT task_group, served, since, since_seq,
  (SELECT t.seq FROM tasks t WHERE t.status = 'pending' AND t.task_group <> '' AND t.type = r.type
    AND t.task_group = r.task_group AND t.priority = r.priority ORDER BY t.run_at, t.seq LIMIT 1) AS first_seq,
  (SELECT t.run_at FROM tasks t WHERE t.status = 'pending' AND t.task_group <> '' AND t.type = r.type
    AND t.task_group = r.task_group AND t.priority = r.priority ORDER BY t.run_at, t.seq LIMIT 1) AS first_run_at,
  CASE WHEN ?1 THEN (SELECT count(*) FROM tasks t WHERE t.status = 'processing' AND t.type = r.type
    AND t.task_group >= substr(r.task_group, 1, instr(r.task_group || char(31), char(31)) - 1)
    AND t.task_group < substr(r.task_group, 1, instr(r.task_group || char(31), char(31)) - 1) || ' ') END AS in_flight
FROM ring r WHERE state = 'ready' AND type = ?2 AND priority = ?3
ORDER BY served, since, since_seq LIMIT 0 + ?4;

-- name: countAlone
-- Ready tasks that are in the lane of those without group and limits, counted up to a bound.
SELECT count(*) AS n FROM (
  SELECT 1 FROM tasks WHERE task_group = '' AND status = 'pending' AND type = ? LIMIT 0 + ?
);

-- name: countLone
SELECT count(*) AS n FROM (
  SELECT 1 FROM tasks WHERE status = 'pending' AND task_group <> '' AND type = ? AND lone = 1 LIMIT 0 + ?
);

-- name: lanesReady
-- ?1 whether groups have a limit, ?2 type, ?3 bound of tasks, ?4 of lanes: those that may be served.
SELECT task_group, (SELECT count(*) FROM (
    SELECT 1 FROM tasks t WHERE t.status = 'pending' AND t.task_group <> '' AND t.type = r.type
      AND t.task_group = r.task_group AND t.priority = r.priority LIMIT 0 + ?3
  )) AS n,
  (SELECT t.uses FROM tasks t WHERE t.status = 'pending' AND t.task_group <> '' AND t.type = r.type
    AND t.task_group = r.task_group AND t.priority = r.priority ORDER BY t.run_at, t.seq LIMIT 1) AS first_uses,
  CASE WHEN ?1 THEN (SELECT count(*) FROM tasks t WHERE t.status = 'processing' AND t.type = r.type
    AND t.task_group >= substr(r.task_group, 1, instr(r.task_group || char(31), char(31)) - 1)
    AND t.task_group < substr(r.task_group, 1, instr(r.task_group || char(31), char(31)) - 1) || ' ') END AS in_flight
FROM ring r WHERE state = 'ready' AND type = ?2 AND task_group <> '' LIMIT 0 + ?4;

-- name: ringPlace
SELECT served, since, since_seq FROM ring WHERE type = ? AND priority = ? AND task_group = ?;

-- name: headsOfGroup
-- The ready tasks of one lane below a priority, in the order in which they would run without others.
SELECT seq, priority, run_at, uses FROM tasks
WHERE status = 'pending' AND task_group <> '' AND type = ? AND task_group = '' || ? AND priority < ?
ORDER BY priority DESC, run_at, seq
LIMIT 0 + ?;

-- name: lanesOfGroup
-- The lanes of a group whose tasks use limits; also those that wait for one, because other lanes may have been woken.
SELECT DISTINCT task_group AS lane FROM ring
WHERE type = ?1 AND task_group > ?2 || char(31) AND task_group < ?2 || ' ' AND state <> 'empty';

-- name: headsInGroup
-- The ready tasks of a lane that follow a given one, whose uses ?7 has; for the same, `uses` is 1.
SELECT seq, priority, run_at, CASE uses WHEN ?7 THEN 1 ELSE uses END AS uses FROM tasks
WHERE status = 'pending' AND task_group <> '' AND type = ?1 AND priority = ?2 AND task_group = '' || ?3
  AND (run_at, seq) > (?4, ?5)
ORDER BY run_at, seq LIMIT 0 + ?6;

-- name: ringJoin
-- A task of a group became ready: type, priority, group, run_at, seq. In a type that shares running time, a lane that
-- had nothing ready has no credit from that time.
INSERT INTO ring (type, priority, task_group, state, since, since_seq) VALUES (?, ?, ?, 'ready', ?, ?)
ON CONFLICT DO UPDATE SET state = 'ready', blocked_by = NULL, need = NULL,
  served = CASE WHEN state = 'empty' AND served > 0 THEN max(served, ifnull((
    SELECT at FROM ring_clocks c WHERE c.type = excluded.type AND c.priority = excluded.priority
  ), 0)) ELSE served END,
  since = min(since, excluded.since),
  since_seq = CASE WHEN (excluded.since, excluded.since_seq) < (since, since_seq) THEN excluded.since_seq
    ELSE since_seq END
WHERE state <> 'ready' OR (excluded.since, excluded.since_seq) < (since, since_seq);

-- name: ringServed
-- ?1 JSON list of [type, priority, lane, limit of its group, its group, its position or null for the end], in order:
-- each moves there, and out of the rotation if it has nothing more to serve.
INSERT INTO ring (type, priority, task_group, served, state)
SELECT type, priority, task_group, ifnull(position, (SELECT ifnull(max(served), 0) FROM ring) + place), CASE
  WHEN task_group = '' THEN 'alone'
  WHEN NOT EXISTS (SELECT 1 FROM tasks t WHERE t.status = 'pending' AND t.task_group <> '' AND t.type = s.type
    AND t.task_group = s.task_group AND t.priority = s.priority) THEN 'empty'
  WHEN most IS NOT NULL AND most <= (SELECT count(*) FROM tasks t WHERE t.status = 'processing'
    AND t.type = s.type AND t.task_group >= s.lanes_from AND t.task_group < s.lanes_from || ' ') THEN 'full'
  ELSE 'ready' END
FROM (
  SELECT key + 1 AS place, value ->> 0 AS type, value ->> 1 AS priority, value ->> 2 AS task_group, value ->> 3 AS most,
    value ->> 4 AS lanes_from, value ->> 5 AS position
  FROM json_each(?1)
) s
WHERE true
ON CONFLICT DO UPDATE SET served = excluded.served, state = excluded.state, blocked_by = NULL, need = NULL;

-- name: ringAside
UPDATE ring SET state = ?, blocked_by = NULL, need = NULL WHERE type = ? AND priority = ? AND task_group = ?;

-- name: ringSince
UPDATE ring SET since = ?, since_seq = ? WHERE type = ? AND priority = ? AND task_group = ?;

-- name: ringFreed
-- All lanes of a group. `+` prevents the planner from reading all full rows.
UPDATE ring SET state = 'ready'
WHERE type = ?1 AND task_group >= '' || ?2 AND task_group < ?2 || ' ' AND +state = 'full';

-- name: ringAllFreed
UPDATE ring SET state = 'ready' WHERE state = 'full' AND type = ?;

-- name: ringDropEmpty
-- A lane that has used more running time than others keeps its position until they have used as much.
DELETE FROM ring WHERE (type, task_group, priority) IN (
  SELECT type, task_group, priority FROM ring WHERE state = 'empty' AND NOT EXISTS (
    SELECT 1 FROM ring_clocks c WHERE c.type = ring.type AND c.priority = ring.priority AND c.at < ring.served
  ) LIMIT 0 + ?
);

-- name: ringDropAlone
-- Without groups in the type, tasks without a group need no place in the rotation.
DELETE FROM ring WHERE state = 'alone'
  AND NOT EXISTS (SELECT 1 FROM ring other WHERE other.type = ring.type AND other.task_group <> '')
  AND NOT EXISTS (
    SELECT 1 FROM tasks t WHERE t.status = 'pending' AND t.task_group <> '' AND t.type = ring.type AND t.lone = 1
  );

-- name: aloneAbove
-- The following statements count the tasks ahead up to a bound, their last parameter. This one: ready, without a group,
-- of a higher priority.
SELECT count(*) AS n FROM (
  SELECT 1 FROM tasks WHERE task_group = '' AND status = 'pending' AND type = ? AND priority > ? LIMIT 0 + ?
);

-- name: aloneBefore
-- Ready, without a group, of a priority, before a given place.
SELECT count(*) AS n FROM (
  SELECT 1 FROM tasks WHERE task_group = '' AND status = 'pending' AND type = ? AND priority = ?
    AND (run_at, seq) < (?, ?) LIMIT 0 + ?
);

-- name: aloneFirst
SELECT seq, run_at FROM tasks WHERE task_group = '' AND status = 'pending' AND type = ? AND priority = ?
ORDER BY run_at, seq LIMIT 1;

-- name: groupBefore
SELECT count(*) AS n FROM (
  SELECT 1 FROM tasks WHERE status = 'pending' AND task_group <> '' AND type = ? AND priority = ?
    AND task_group = '' || ? AND (run_at, seq) < (?, ?) LIMIT 0 + ?
);

-- name: groupsAbove
-- Tasks of groups that may be served, with a higher priority. The ring drives the join: full groups may have any number
-- of tasks.
SELECT count(*) AS n FROM (
  SELECT 1 FROM ring r CROSS JOIN tasks t INDEXED BY tasks_ready_in_group ON t.status = 'pending'
    AND t.task_group <> '' AND t.type = r.type AND t.task_group = r.task_group AND t.priority = r.priority
  WHERE r.state = 'ready' AND r.type = ? AND r.priority > ? LIMIT 0 + ?
);

-- name: loneAbove
SELECT count(*) AS n FROM (
  SELECT 1 FROM tasks WHERE status = 'pending' AND task_group <> '' AND type = ? AND lone = 1 AND priority > ?
  LIMIT 0 + ?
);

-- name: loneBefore
-- The only ready tasks of their groups, before a given position.
SELECT count(*) AS n FROM (
  SELECT 1 FROM tasks WHERE status = 'pending' AND task_group <> '' AND type = ? AND lone = 1 AND priority = ?
    AND (run_at, seq) < (?, ?) LIMIT 0 + ?
);

-- name: groupsBeside
-- ?1 type, ?2 priority, ?3 group, ?4 bound of tasks, ?5 of groups: the other groups that may be served, and how many
-- tasks of each are ready.
SELECT served, since, since_seq, (SELECT count(*) FROM (
    SELECT 1 FROM tasks t WHERE t.status = 'pending' AND t.task_group <> '' AND t.type = r.type
      AND t.task_group = r.task_group AND t.priority = r.priority LIMIT 0 + ?4
  )) AS n
FROM ring r WHERE state = 'ready' AND type = ?1 AND priority = ?2 AND task_group <> ?3 LIMIT 0 + ?5;
