-- Version 7: a search for the tasks that a task still waits for does not read the outcomes that it has, which may be
-- large.
CREATE INDEX predecessors_waiting ON predecessors (successor, place, id) WHERE outcome IS NULL;
