-- Version 19: figures of types over time (store/history.ts), and of all types under the name ''.
CREATE TABLE history (
  ring TEXT NOT NULL,
  type TEXT NOT NULL,
  slot INTEGER NOT NULL, -- its start, divided by the length of a slot of the ring
  body TEXT NOT NULL,
  PRIMARY KEY (ring, type, slot)
) STRICT, WITHOUT ROWID;
CREATE INDEX history_slots ON history (ring, slot);
