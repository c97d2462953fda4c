-- Version 10: tasks that have ended and have not informed all tasks that wait for them. behind: the seq of the last one
-- informed.
CREATE TABLE put_off (n INTEGER PRIMARY KEY, id TEXT NOT NULL, behind INTEGER NOT NULL) STRICT;
