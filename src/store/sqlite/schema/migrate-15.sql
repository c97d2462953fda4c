-- Version 15: a type may be held: no task of it starts before this time.
ALTER TABLE types ADD COLUMN held_until INTEGER;
