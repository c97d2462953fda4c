-- Version 13: schedules, API keys, the secret and named readers are documents (store/documents.ts). A document that is
-- due at due_at is passed to the queue. A schedule has the type of its tasks, and its last task.
CREATE TABLE documents (
  kind TEXT, id TEXT, type TEXT, text TEXT NOT NULL, due_at INTEGER, last_at INTEGER, last_task_id TEXT,
  PRIMARY KEY (kind, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX documents_due ON documents (due_at) WHERE due_at IS NOT NULL;

INSERT INTO documents (kind, id, type, text, due_at, last_at, last_task_id)
SELECT 'schedule', id, json_extract(body, '$.task.type'),
  substr(body, 1, length(body) - 1) || ',"nextAt":' || ifnull(next_at, 'null') || '}', next_at, last_at, last_task_id
FROM schedules;
INSERT INTO documents (kind, id, text) SELECT 'key', id, body FROM keys;
INSERT INTO documents (kind, id, text) SELECT 'secret', '', value FROM secret;
-- Files made before readers existed do not have their table.
CREATE TABLE IF NOT EXISTS readers (
  name TEXT PRIMARY KEY, owner TEXT, expires_at INTEGER NOT NULL, position TEXT NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO documents (kind, id, text)
SELECT 'reader', name, expires_at || '|' || ifnull(owner, '') || '|' || position FROM readers;
DROP TABLE schedules;
DROP TABLE keys;
DROP TABLE secret;
DROP TABLE readers;
