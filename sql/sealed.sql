-- What is sealed in this database, under which root key, and what is left to be sealed anew after a rotation.
--
-- What always holds: no key is here, and nothing that a key follows from; a root key is known by a keyed hash of its own. Of a sealed
-- value the first 96 bytes name that key and hold the row's own key, wrapped: another root key changes these and nothing else
-- (src/heliosdb/transport/at_rest.py).

CREATE TABLE federated.root_key (
    holder     text NOT NULL CHECK (holder IN ('coordinator', 'node')),
    name       text NOT NULL CHECK (name ~ '^[0-9a-f]{16}$'),
    status     text NOT NULL CHECK (status IN ('current', 'former', 'dropped')),
    source     text NOT NULL,
    since      timestamptz NOT NULL DEFAULT clock_timestamp(),
    first_used timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (holder, name)
);
CREATE UNIQUE INDEX root_key_one_current ON federated.root_key (holder) WHERE status = 'current';
COMMENT ON TABLE federated.root_key IS 'Which root keys this database''s daemons have sealed with; the keys are in no database';
COMMENT ON COLUMN federated.root_key.name IS 'A keyed hash of the key, 8 bytes: as it stands in what it sealed';
COMMENT ON COLUMN federated.root_key.status IS 'current: seals; former: still opens what it sealed; dropped: is no longer at hand';
COMMENT ON COLUMN federated.root_key.source IS 'Where the daemon had it from: a file, an environment variable or a command, by its name';
COMMENT ON COLUMN federated.root_key.since IS 'When it became what status says';

CREATE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE OF status ON federated.root_key
    FOR EACH ROW EXECUTE FUNCTION federated._audit();

SELECT pg_catalog.pg_extension_config_dump('federated.root_key', '');

CREATE FUNCTION federated._sealed_digest(sealed bytea) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT sha256(CASE WHEN substring(sealed FROM 1 FOR 4) = '\x48465332' AND octet_length(sealed) >= 96
                       THEN substring(sealed FROM 97) ELSE sealed END)
$$;
COMMENT ON FUNCTION federated._sealed_digest(bytea) IS 'SHA-256 of a sealed value but for what another root key changes in it';

CREATE FUNCTION federated._sealed_under(sealed bytea) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN substring(sealed FROM 1 FOR 4) = '\x48465332' THEN encode(substring(sealed FROM 5 FOR 8), 'hex') ELSE '' END
$$;
COMMENT ON FUNCTION federated._sealed_under(bytea) IS
    'The name of the root key under which a value is sealed; empty for what a release sealed that named none';

CREATE VIEW federated.sealed_value AS
SELECT 'coordinator' AS holder, 'parameters of rounds' AS what, federated._sealed_under(p.sealed) AS key_name FROM federated.run_parameters AS p
UNION ALL
SELECT 'coordinator', 'memories of rounds', federated._sealed_under(p.memory) FROM federated.run_parameters AS p WHERE p.memory IS NOT NULL
UNION ALL
SELECT 'coordinator', 'checkpoints', federated._sealed_under(p.manifest) FROM federated.run_parameters AS p WHERE p.manifest IS NOT NULL
UNION ALL
SELECT 'coordinator', 'parameters of versions', federated._sealed_under(v.sealed) FROM federated.version AS v WHERE v.sealed <> ''
UNION ALL
SELECT 'node', 'memories of a node', federated._sealed_under(m.sealed) FROM federated.node_memory AS m
UNION ALL
SELECT 'node', 'own parts of models', federated._sealed_under(p.sealed) FROM federated.personal_part AS p;
COMMENT ON VIEW federated.sealed_value IS 'Each sealed value that a root key is needed for, by what it is and under which key it is';

CREATE VIEW @extschema@.federated_sealed_state AS
SELECT coalesce(v.holder, k.holder) AS holder, v.what, coalesce(v.key_name, k.name) AS key_name,
       CASE WHEN v.key_name = '' THEN 'before names' ELSE coalesce(k.status, 'unknown') END AS key_status,
       coalesce(v.rows, 0) AS rows, k.source AS key_source, k.since
FROM (SELECT s.holder, s.what, s.key_name, count(*) AS rows FROM federated.sealed_value AS s GROUP BY 1, 2, 3) AS v
FULL JOIN federated.root_key AS k ON k.holder = v.holder AND k.name = v.key_name;
COMMENT ON VIEW @extschema@.federated_sealed_state IS
    'What is sealed at rest, by what it is and under which root key, with how many rows: after a rotation the rows of former keys go to 0, and such a key may then be dropped (heliosdb keys drop)';
COMMENT ON COLUMN @extschema@.federated_sealed_state.holder IS 'Whose root key it is: coordinator or node';
COMMENT ON COLUMN @extschema@.federated_sealed_state.what IS 'What is sealed; NULL for a root key that nothing is sealed under';
COMMENT ON COLUMN @extschema@.federated_sealed_state.rows IS 'How many values are sealed under the key; 0 where it is needed for none';
COMMENT ON COLUMN @extschema@.federated_sealed_state.key_source IS
    'Where the daemon had the key from: a file, an environment variable or a command, by its name; NULL where no daemon of this database has told of the key';
COMMENT ON COLUMN @extschema@.federated_sealed_state.since IS 'When the key became what key_status says; NULL where no daemon of this database has told of it';
COMMENT ON COLUMN @extschema@.federated_sealed_state.key_name IS 'A keyed hash of the root key; empty for what a release sealed that named none';
COMMENT ON COLUMN @extschema@.federated_sealed_state.key_status IS
    'current, former, dropped; unknown: no daemon of this database has told of it; before names: sealed by an earlier release, and sealed anew when the daemon comes to it';

CREATE FUNCTION federated._count_sealed(holder text, key_name text, OUT rows bigint, OUT files bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    rows := (SELECT count(*) FROM federated.sealed_value AS v
             WHERE v.holder = _count_sealed.holder AND v.key_name IN (_count_sealed.key_name, ''));
    files := (SELECT count(*) FROM federated.checkpoint AS c JOIN federated.root_key AS k
                  ON k.holder = _count_sealed.holder AND k.name = _count_sealed.key_name
              WHERE k.holder = 'coordinator' AND c.created_at < k.since);
END
$$;
COMMENT ON FUNCTION federated._count_sealed(text, text) IS
    'How many values need a root key (those that name none included), and how many checkpoint files were written before it was a former one';
