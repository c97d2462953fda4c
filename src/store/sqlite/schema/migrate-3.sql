-- Version 3: API keys and sessions, and the one secret that signs tokens.
-- body: the key as JSON. session_of: the key that opened the session; the session is deleted with it.
CREATE TABLE keys (
  id TEXT PRIMARY KEY, created_at INTEGER NOT NULL, expires_at INTEGER, session_of TEXT, body TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE secret (only_one INTEGER PRIMARY KEY CHECK (only_one = 1), value TEXT NOT NULL) STRICT;
