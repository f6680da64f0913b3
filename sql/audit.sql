CREATE TABLE federated.audit (
    audit_id    uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    session_role name NOT NULL,
    acting_role  name NOT NULL,
    action      text NOT NULL,
    object_kind text NOT NULL,
    object_name text NOT NULL,
    details     jsonb NOT NULL DEFAULT '{}'
);
COMMENT ON TABLE federated.audit IS 'Who changed what: one row a change, appended by triggers only; restoring a dump appends too';

CREATE FUNCTION federated._audited(subject jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_object_agg(key, value) FROM jsonb_each(subject)
    WHERE key IN ('name', 'workspace', 'workspace_id', 'model_id', 'owner', 'options', 'overrides', 'policy', 'status',
                  'stop_requested', 'certificate', 'relation', 'columns', 'types', 'predicate', 'version', 'is_current')
$$;
COMMENT ON FUNCTION federated._audited(jsonb) IS 'The part of a row that the audit log keeps: what people decide, not what runs measure';

-- The acting role is the one under SET ROLE where there is one: inside a DEFINER function current_user is its owner.
CREATE FUNCTION federated._audit() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    row_after  jsonb := CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) END;
    row_before jsonb := CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END;
    subject    jsonb := coalesce(row_after, row_before);
BEGIN
    INSERT INTO federated.audit (session_role, acting_role, action, object_kind, object_name, details)
    VALUES (
        session_user,
        CASE WHEN current_setting('role') = 'none' THEN session_user ELSE current_setting('role')::name END,
        lower(TG_OP), TG_TABLE_NAME, coalesce(subject ->> 'name', subject ->> 'run_id'),
        jsonb_strip_nulls(jsonb_build_object(
            'before', federated._audited(row_before), 'after', federated._audited(row_after)))
    );
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION federated._audit() IS 'Appends to the audit log';

CREATE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE OF name, owner, options ON federated.workspace
    FOR EACH ROW EXECUTE FUNCTION federated._audit();
CREATE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE OF name, workspace_id, options, status, certificate ON federated.node
    FOR EACH ROW EXECUTE FUNCTION federated._audit();
CREATE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE OF name, workspace_id, owner, options ON federated.model
    FOR EACH ROW EXECUTE FUNCTION federated._audit();
CREATE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE OF status, stop_requested, overrides, options, policy ON federated.run
    FOR EACH ROW EXECUTE FUNCTION federated._audit();
CREATE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE
    OF name, workspace, owner, relation, columns, types, predicate, options ON federated.dataset
    FOR EACH ROW EXECUTE FUNCTION federated._audit();
