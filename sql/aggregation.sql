-- Aggregation functions: how people combine the nodes' updates in a language of their own. Each is a function in
-- federated_aggregation that belongs to whoever made it, and of the signature (updates, weights); PostgreSQL's own rules say who
-- may use which language.

CREATE TABLE federated.aggregation_function (
    name        text PRIMARY KEY CHECK (name <> ''),
    owner       name NOT NULL DEFAULT current_user,
    language    text NOT NULL,
    body_sha256 bytea NOT NULL CHECK (octet_length(body_sha256) = 32),
    created_at  timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE federated.aggregation_function IS
    'The functions in federated_aggregation as statements made them, so that the audit log shows who did and of which text';

CREATE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE OF owner, language, body_sha256 ON federated.aggregation_function
    FOR EACH ROW EXECUTE FUNCTION federated._audit();

CREATE FUNCTION federated._create_aggregation_function(
    function_name text, function_body text, function_language text, may_replace boolean
) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    signature text := format('federated_aggregation.%I(double precision[], double precision[])', function_name);
    reason    text;
    found     text;
BEGIN
    BEGIN
        EXECUTE format(
            'CREATE %s federated_aggregation.%I(updates double precision[], weights double precision[])'
            ' RETURNS double precision[] LANGUAGE %I AS %L',
            CASE WHEN may_replace THEN 'OR REPLACE FUNCTION' ELSE 'FUNCTION' END, function_name, function_language,
            function_body);
    EXCEPTION WHEN invalid_function_definition THEN
        -- The statement says RETURNS FLOAT: what PostgreSQL says of arrays needs telling where they come from.
        GET STACKED DIAGNOSTICS reason = MESSAGE_TEXT, found = PG_EXCEPTION_DETAIL;
        RAISE EXCEPTION USING ERRCODE = 'invalid_function_definition', MESSAGE = reason, DETAIL = found,
            HINT = 'It gets updates, an array with a row of values for each node, and weights, one for each node, and returns one array of as many values as such a row has.';
    END;
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', signature);
    EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO federated_aggregator', signature);
    INSERT INTO federated.aggregation_function AS f (name, language, body_sha256)
    VALUES (function_name, function_language, sha256(convert_to(function_body, 'UTF8')))
    ON CONFLICT (name) DO UPDATE
    SET owner = excluded.owner, language = excluded.language, body_sha256 = excluded.body_sha256;
END
$$;
COMMENT ON FUNCTION federated._create_aggregation_function(text, text, text, boolean) IS
    'Makes a function in federated_aggregation that belongs to the caller, and that nobody but federated_aggregator may call';

CREATE FUNCTION federated._drop_aggregation_function(function_name text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format('DROP FUNCTION federated_aggregation.%I(double precision[], double precision[])', function_name);
    DELETE FROM federated.aggregation_function AS f WHERE f.name = function_name;
END
$$;
COMMENT ON FUNCTION federated._drop_aggregation_function(text) IS 'Drops the caller''s function in federated_aggregation';

-- Whoever writes such a function has it called by the coordinator: so it runs as federated_aggregator, who may do nothing else.
-- Inside DEFINER no code can take another role, whatever the function's own owner makes of it.
CREATE FUNCTION federated._aggregate(function_name text, updates double precision[], weights double precision[])
RETURNS double precision[]
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    combined double precision[];
BEGIN
    EXECUTE format('SELECT federated_aggregation.%I($1, $2)', function_name) INTO combined USING updates, weights;
    RETURN combined;
END
$$;
COMMENT ON FUNCTION federated._aggregate(text, double precision[], double precision[]) IS
    'What an aggregation function makes of all nodes'' updates, one a row, and of their weights; it runs without any rights';
