-- Version 8: the most that tasks of a type may ask for, as operators have set it.
ALTER TABLE types ADD COLUMN ceilings TEXT NOT NULL DEFAULT '{}';
