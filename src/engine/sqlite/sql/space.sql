-- name: vacuumMode
PRAGMA auto_vacuum;

-- name: pages
PRAGMA page_count;

-- name: freePages
PRAGMA freelist_count;

-- name: giveBack
-- Moves pages from the end of the file into free ones, 256 (1 MiB) at a time: about a millisecond.
PRAGMA incremental_vacuum(256);

-- name: shrinkFile
-- The file gets shorter when the log is carried over. What readers or other processes need still is left for later.
PRAGMA wal_checkpoint(PASSIVE);
