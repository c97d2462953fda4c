-- Version 16: the attempts of a task that did not end it. total: bytes of all bodies of the task up to this one.
CREATE TABLE attempts (
  seq INTEGER NOT NULL, -- of the task
  n INTEGER NOT NULL, -- from 1
  delivery INTEGER NOT NULL,
  outcome TEXT NOT NULL,
  total INTEGER NOT NULL,
  body TEXT NOT NULL, -- task/attempt.ts
  PRIMARY KEY (seq, n)
) STRICT, WITHOUT ROWID;
