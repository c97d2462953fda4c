-- Runs at every open, so that files made before readers existed have the table too.
-- owner NULL: the lease is free. position: the last event handled.
CREATE TABLE IF NOT EXISTS readers (
  name TEXT PRIMARY KEY, owner TEXT, expires_at INTEGER NOT NULL, position TEXT NOT NULL
) STRICT, WITHOUT ROWID;
