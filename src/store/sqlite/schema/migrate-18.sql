-- Version 18: named limits. From now on task_group is the lane of a task: its group, and the limits that it uses
-- (task/uses.ts); for a task without limits that is its group. A range finds all lanes of a group: neither names of
-- groups nor names of limits contain control characters.
ALTER TABLE tasks ADD COLUMN uses TEXT; -- JSON, units by limit; NULL for none
CREATE INDEX tasks_uses ON tasks (task_group) WHERE uses IS NOT NULL AND completed_at IS NULL;

-- Settings. `tenant/*` applies to each key without settings of its own; `group:<type>/<group>` is that of one group.
CREATE TABLE limits (
  name TEXT PRIMARY KEY,
  max INTEGER,
  max_source TEXT NOT NULL DEFAULT 'handler',
  rate_max INTEGER,
  rate_per_ms INTEGER,
  rate_source TEXT NOT NULL DEFAULT 'handler',
  paused INTEGER NOT NULL DEFAULT 0,
  held_until INTEGER
) STRICT, WITHOUT ROWID;
-- Holds of keys without settings of their own.
CREATE TABLE limit_holds (name TEXT PRIMARY KEY, held_until INTEGER NOT NULL) STRICT, WITHOUT ROWID;

-- The units that the tasks in flight hold: a row is written and deleted with the lease.
CREATE TABLE permits (
  limit_name TEXT NOT NULL, seq INTEGER NOT NULL, units INTEGER NOT NULL, PRIMARY KEY (limit_name, seq)
) STRICT, WITHOUT ROWID;

-- A lane in the state 'blocked' waits for so many units of a limit, the first one in its way.
ALTER TABLE ring ADD COLUMN blocked_by TEXT;
ALTER TABLE ring ADD COLUMN need INTEGER;
CREATE INDEX ring_blocked ON ring (blocked_by, type, priority DESC, served, since, since_seq)
  WHERE blocked_by IS NOT NULL;
CREATE INDEX ring_need ON ring (blocked_by, type, need) WHERE blocked_by IS NOT NULL;
-- When the time of a limit has come for which lanes wait: the end of a hold, or room in its rate.
CREATE TABLE limit_waits (name TEXT PRIMARY KEY, until INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX limit_waits_until ON limit_waits (until);
