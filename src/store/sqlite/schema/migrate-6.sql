-- Version 6: unguessable lease tokens.
ALTER TABLE tasks ADD COLUMN lease_secret TEXT; -- of a task that is processing; NULL: handed out before this version
