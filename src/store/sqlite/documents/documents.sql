-- name: document
SELECT * FROM documents WHERE kind = ? AND id = ?;

-- name: documentsOf
SELECT * FROM documents WHERE kind = ? ORDER BY id;

-- name: putDocument
INSERT INTO documents (kind, id, type, text, due_at) VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET text = excluded.text, due_at = excluded.due_at;

-- name: noteLastTask
UPDATE documents SET last_at = ?3, last_task_id = ?4 WHERE kind = ?1 AND id = ?2;

-- name: dropDocument
DELETE FROM documents WHERE kind = ? AND id = ?;

-- name: dueDocuments
SELECT id, text FROM documents WHERE due_at <= ? ORDER BY due_at LIMIT 0 + ?;

-- name: nextDocumentDue
SELECT min(due_at) AS at FROM documents WHERE due_at > ?;

-- name: taskStatus
SELECT status FROM tasks WHERE id = ?;
