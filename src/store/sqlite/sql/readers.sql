-- name: reader
SELECT owner, expires_at, position FROM readers WHERE name = ?;

-- name: setReader
INSERT INTO readers (name, owner, expires_at, position) VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET owner = excluded.owner, expires_at = excluded.expires_at, position = excluded.position;
