-- name: vacuumMode
PRAGMA auto_vacuum;

-- name: pages
PRAGMA page_count;

-- name: freePages
PRAGMA freelist_count;

-- name: giveBack
-- Moves pages from the end of the file into free ones, 256 (1 MiB) at a time, in about a millisecond.
PRAGMA incremental_vacuum(256);

-- name: shrinkFile
-- Shortens the file by copying the log into it. Pages that readers or other processes still need are left for later.
PRAGMA wal_checkpoint(PASSIVE);
