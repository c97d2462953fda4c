-- Version 6: lease tokens that nobody can guess.
ALTER TABLE tasks ADD COLUMN lease_secret TEXT; -- of a task that is processing; NULL: handed out before this version
