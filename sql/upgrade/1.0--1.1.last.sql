-- The audit log of before: which workspace each entry is about, then one chain a workspace.
UPDATE federated.audit AS a SET workspace = coalesce(
    nullif(federated._audited_workspace(a.object_kind, coalesce(a.details -> 'after', a.details -> 'before')), ''),
    (SELECT min(w.object_name) FROM federated.audit AS w
     WHERE w.object_kind = 'workspace'
       AND coalesce(w.details -> 'after', w.details -> 'before') ->> 'workspace_id'
           = coalesce(a.details -> 'after', a.details -> 'before') ->> 'workspace_id'),
    '');
SELECT federated._link_audit_entries();
