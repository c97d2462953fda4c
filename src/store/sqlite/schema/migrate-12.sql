-- Version 12: large outcomes are stored separately, once for all tasks that have waited for them, so that neither a
-- claim nor a search among predecessors reads them.
-- predecessors.outcome is then only [status, type]; bytes is the size of the whole outcome.
ALTER TABLE predecessors ADD COLUMN copy INTEGER;
ALTER TABLE predecessors ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
CREATE INDEX predecessors_by_copy ON predecessors (copy) WHERE copy IS NOT NULL;
CREATE TABLE copies (n INTEGER PRIMARY KEY, outcome TEXT NOT NULL) STRICT;
