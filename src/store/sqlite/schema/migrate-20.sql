-- Version 20: groups can share running time instead of starts (turn/shared-time.ts). The position of a lane, `served`,
-- is then in milliseconds.
ALTER TABLE types ADD COLUMN group_turns TEXT NOT NULL DEFAULT 'tasks';
ALTER TABLE types ADD COLUMN group_turns_source TEXT NOT NULL DEFAULT 'handler';
ALTER TABLE ring ADD COLUMN pace REAL; -- mean of the lane's recent running times (ms)

-- The position of the lane that started last, and the mean of recent running times of all lanes (ms).
CREATE TABLE ring_clocks (
  type TEXT NOT NULL,
  priority INTEGER NOT NULL,
  at INTEGER NOT NULL DEFAULT 0,
  pace REAL,
  PRIMARY KEY (type, priority)
) STRICT, WITHOUT ROWID;
