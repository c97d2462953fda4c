-- Version 12: large outcomes are kept apart, each once for all tasks that have waited for it, so that neither a claim
-- nor a search among predecessors reads them.
-- predecessors.outcome is then [status, type] alone; bytes: of the whole.
ALTER TABLE predecessors ADD COLUMN copy INTEGER;
ALTER TABLE predecessors ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
CREATE INDEX predecessors_by_copy ON predecessors (copy) WHERE copy IS NOT NULL;
CREATE TABLE copies (n INTEGER PRIMARY KEY, outcome TEXT NOT NULL) STRICT;
