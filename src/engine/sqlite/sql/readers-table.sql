-- Run at every open, so that files made before there were readers have the table too.
-- owner NULL: nobody holds the lease. position: the last event handled.
CREATE TABLE IF NOT EXISTS readers (
  name TEXT PRIMARY KEY, owner TEXT, expires_at INTEGER NOT NULL, position TEXT NOT NULL
) STRICT, WITHOUT ROWID;
