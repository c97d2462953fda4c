-- name: begin
BEGIN IMMEDIATE;

-- name: commit
COMMIT;

-- name: dataVersion
-- Changes when another connection has written.
PRAGMA data_version;

-- name: beginRead
-- Several reads of one moment, whatever other processes write meanwhile.
BEGIN DEFERRED;
