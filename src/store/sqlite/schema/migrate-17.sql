-- Version 17: lines that handlers wrote with their log. total: bytes of all bodies of the task up to this one.
CREATE TABLE logs (
  seq INTEGER NOT NULL, -- of the task
  last INTEGER NOT NULL, -- number of the last line
  count INTEGER NOT NULL,
  delivery INTEGER NOT NULL,
  attempt INTEGER NOT NULL,
  total INTEGER NOT NULL,
  body TEXT NOT NULL, -- a line of JSON each, task/log-line.ts
  PRIMARY KEY (seq, last)
) STRICT, WITHOUT ROWID;
