-- Version 7: what a task still waits for is found without reading what it has waited for, which may be large.
CREATE INDEX predecessors_waiting ON predecessors (successor, place, id) WHERE outcome IS NULL;
