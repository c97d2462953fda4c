-- Version 9: the outbox is bounded by bytes, and does not report removed tasks again.
ALTER TABLE events ADD COLUMN total INTEGER NOT NULL DEFAULT 0; -- bytes of all bodies up to this row, since the first
UPDATE events SET total = counted.total FROM (
  SELECT last, sum(length(CAST(body AS BLOB))) OVER (ORDER BY last) AS total FROM events
) AS counted WHERE counted.last = events.last;

-- The latest time at which a removed task had ended: no later event belongs to a removed task.
CREATE TABLE removals (ended_until INTEGER NOT NULL) STRICT;
INSERT INTO removals (ended_until) VALUES (0);

-- The tasks that have a copy of a task's result.
CREATE INDEX predecessors_copied ON predecessors (id) WHERE outcome IS NOT NULL;
