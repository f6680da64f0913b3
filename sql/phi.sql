-- Which columns of a dataset look like identifiers of people. Values are looked at here, with the rights of whoever shares
-- them, and by the node's training process; of them nothing is kept but a kind and one of three shares.

CREATE TABLE federated.phi_finding (
    dataset_id  bigint NOT NULL REFERENCES federated.dataset ON DELETE CASCADE,
    column_name text NOT NULL,
    kind        text NOT NULL,
    evidence    text NOT NULL CHECK (evidence IN ('name', 'type', 'values')),
    share       text CHECK ((share IS NOT NULL) = (evidence = 'values')),
    found_by    text NOT NULL CHECK (found_by IN ('statement', 'training')),
    found_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (dataset_id, column_name, kind, evidence, found_by)
);
COMMENT ON TABLE federated.phi_finding IS
    'Columns of datasets that look like identifiers of people: for the participant''s own DBA, and told nobody else';
COMMENT ON COLUMN federated.phi_finding.found_by IS
    'statement: CREATE or ALTER FEDERATED DATASET; training: the node, when it read the rows for a run. What a training found by values stands in the way of answers without noise alone: under a budget no answer depends on it';
COMMENT ON COLUMN federated.phi_finding.share IS 'How many of the values that were looked at, in three steps; NULL where no value was';

SELECT pg_catalog.pg_extension_config_dump('federated.phi_finding', '');

-- With the caller's rights, and nothing written: what functions behind a view would write is an error, and undone with
-- all that was set. Names inside a view are looked up as the caller would have typed them. What cannot be read is not
-- looked at: federated._probe_dataset has said why.
CREATE FUNCTION federated._sample_dataset(dataset text, columns text[], most integer, longest integer, schemas name[])
RETURNS SETOF jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    shown text := (SELECT string_agg(format('left(v.%1$I::text, %2$s) AS %1$I', c, longest), ', ') FROM unnest(columns) AS u (c));
    found jsonb[];
BEGIN
    BEGIN
        PERFORM set_config('search_path', (SELECT string_agg(quote_ident(s), ', ') FROM unnest(schemas) AS s), true),
            pg_catalog.set_config('transaction_read_only', 'on', true);
        EXECUTE pg_catalog.format(
            'SELECT pg_catalog.array_agg(pg_catalog.to_jsonb(s.*)) FROM (SELECT %s FROM federated_dataset.%I AS v LIMIT %s) AS s',
            shown, dataset, most) INTO found;
        RAISE EXCEPTION USING ERRCODE = 'HFL01';
    EXCEPTION
        WHEN SQLSTATE 'HFL01' THEN
            NULL;
        WHEN OTHERS THEN
            found := NULL;
    END;
    RETURN QUERY SELECT f FROM unnest(found) AS f;
END
$$;
COMMENT ON FUNCTION federated._sample_dataset(text, text[], integer, integer, name[]) IS
    'Rows of the caller''s dataset with their values as text, cut, to look for identifiers; none where they cannot be read';

CREATE FUNCTION federated._record_findings(dataset_id bigint, found_by text, columns text[], findings jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM federated.phi_finding AS f
    WHERE f.dataset_id = _record_findings.dataset_id AND f.found_by = _record_findings.found_by
      AND (columns IS NULL OR f.column_name = ANY (columns));
    INSERT INTO federated.phi_finding (dataset_id, column_name, kind, evidence, share, found_by)
    SELECT _record_findings.dataset_id, r.column_name, r.kind, r.evidence, r.share, _record_findings.found_by
    FROM jsonb_to_recordset(findings) AS r (column_name text, kind text, evidence text, share text)
    WHERE EXISTS (SELECT FROM federated.dataset AS d WHERE d.dataset_id = _record_findings.dataset_id);
END
$$;
COMMENT ON FUNCTION federated._record_findings(bigint, text, text[], jsonb) IS
    'Puts findings in the place of those from before, about these columns or, where there are none named, all';

CREATE FUNCTION federated._record_trained_findings(dataset_id bigint, columns text[], findings jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM federated._record_findings(dataset_id, 'training', coalesce(columns, '{}'), findings);
END
$$;
COMMENT ON FUNCTION federated._record_trained_findings(bigint, text[], jsonb) IS
    'Keeps what the node found when it read the rows; of what statements found it changes nothing';

CREATE FUNCTION @extschema@.federated_phi_findings(
    dataset text,
    OUT column_name text, OUT kind text, OUT evidence text, OUT share text, OUT found_by text,
    OUT found_at timestamptz, OUT is_accepted boolean
) RETURNS SETOF record
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    shared federated.dataset;
BEGIN
    SELECT d.* INTO shared FROM federated.dataset AS d WHERE d.name = federated_phi_findings.dataset;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = format('federated dataset %s does not exist', coalesce(quote_ident(dataset), 'null'));
    END IF;
    RETURN QUERY
    SELECT f.column_name, f.kind, f.evidence, f.share, f.found_by, f.found_at,
           coalesce(shared.options -> 'phi_accepted' ? f.column_name, false)
    FROM federated.phi_finding AS f WHERE f.dataset_id = shared.dataset_id
    ORDER BY f.column_name, f.kind, f.evidence, f.found_by;
END
$$;
COMMENT ON FUNCTION @extschema@.federated_phi_findings(text) IS
    'Which columns of a dataset of this database look like identifiers of people (45 CFR 164.514(b)(2)), and by what: the name, the type, or the values that were looked at, of which the share is told in three steps and never a count; is_accepted: whether phi_accepted names the column';
