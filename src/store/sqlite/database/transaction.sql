-- name: begin
BEGIN IMMEDIATE;

-- name: commit
COMMIT;

-- name: dataVersion
-- Changes when another connection has written.
PRAGMA data_version;

-- name: beginRead
-- Several reads of one snapshot, independent of writes by other processes.
BEGIN DEFERRED;
