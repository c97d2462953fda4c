-- Version 8: the ceilings that operators set for the values that tasks of a type may request.
ALTER TABLE types ADD COLUMN ceilings TEXT NOT NULL DEFAULT '{}';
