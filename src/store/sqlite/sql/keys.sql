-- name: addKey
INSERT OR REPLACE INTO keys (id, created_at, expires_at, session_of, body) VALUES (?, ?, ?, ?, ?);

-- name: key
SELECT id FROM keys WHERE id = ?;

-- name: alterKey
UPDATE keys SET expires_at = ?2, body = ?3 WHERE id = ?1;

-- name: dropKey
DELETE FROM keys WHERE id = ?1 OR session_of = ?1;

-- name: dropExpiredKeys
DELETE FROM keys WHERE expires_at <= ?;

-- name: validKeys
SELECT body FROM keys WHERE expires_at IS NULL OR expires_at > ? ORDER BY created_at, id;

-- name: secret
SELECT value FROM secret;

-- name: makeSecret
INSERT OR IGNORE INTO secret (only_one, value) VALUES (1, ?);
