-- name: begin
BEGIN IMMEDIATE;

-- name: commit
COMMIT;

-- name: dataVersion
-- Changes when another connection has written.
PRAGMA data_version;
