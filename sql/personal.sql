-- What a node has of a model for itself: made at the end of a run from its own rows, sealed with a key that is in no database, and
-- put in the place of a version's numbers where this database's own subscription brings that version.
--
-- What always holds: it never leaves; it goes with the subscription, when the coordinator knows the model no more, and when a data
-- subject is erased whose rows this node held.

CREATE TABLE federated.personal_part (
    workspace    text NOT NULL,
    run_id       uuid NOT NULL,
    node_name    text NOT NULL,
    model_name   text NOT NULL,
    round_number integer NOT NULL CHECK (round_number >= 0),
    way          text NOT NULL CHECK (way IN ('fine_tune', 'local_head', 'ditto')),
    figures      jsonb NOT NULL CHECK (jsonb_typeof(figures) = 'object'),
    sealed       bytea NOT NULL CHECK (octet_length(sealed) <= 536870912),
    made_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (workspace, run_id, node_name)
);
COMMENT ON TABLE federated.personal_part IS
    'A node''s own parts of models, of each model those of the last eight runs: no statement reads what is sealed';
COMMENT ON COLUMN federated.personal_part.workspace IS 'Part of the key: what another workspace calls a run is another run';
COMMENT ON COLUMN federated.personal_part.model_name IS 'The model, as its coordinator calls it';
COMMENT ON COLUMN federated.personal_part.round_number IS 'The run''s last round, in which it was made';
COMMENT ON COLUMN federated.personal_part.way IS 'How: as the model''s option personalization says';
COMMENT ON COLUMN federated.personal_part.figures IS
    'rows, and of the version (global) and of the node''s own model (personal) loss, accuracy and rmse over the rows that the node holds out';
COMMENT ON COLUMN federated.personal_part.sealed IS 'Its numbers, under a key of the node''s';

SELECT pg_catalog.pg_extension_config_dump('federated.personal_part', '');

CREATE FUNCTION federated._destroy_delivered(model_name text, delivered federated.delivered_version) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    message text := format('what version %s of federated model "%s" predicted with here was the node''s own part, and is destroyed: a data subject was erased',
                           delivered.version, model_name);
    hint    text := format('SELECT state, message FROM federated_subscriptions WHERE model_name = %L says what takes its place.', model_name);
BEGIN
    UPDATE federated.delivered_version AS d SET is_current = false, prediction = '{}', prediction_arrays = NULL
    WHERE d.delivery_id = delivered.delivery_id;
    IF delivered.is_current THEN
        PERFORM federated._write_refusal(model_name, message, hint);
    END IF;
    BEGIN
        PERFORM federated._forget_version(model_name, delivered);
    EXCEPTION WHEN dependent_objects_still_exist THEN
        PERFORM federated._write_refusal(model_name || '@' || delivered.version, message, hint);
    END;
END
$$;
COMMENT ON FUNCTION federated._destroy_delivered(text, federated.delivered_version) IS
    'Destroys the numbers of a version that predicts here with the node''s own part; its functions say so until the version is brought again';

-- Runs as federated_owner, which owns the functions.
CREATE FUNCTION federated._destroy_personal(workspace text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    destroyed bigint;
BEGIN
    PERFORM FROM federated.subscription AS s WHERE s.workspace = workspace ORDER BY s.name FOR NO KEY UPDATE;
    WITH gone AS (DELETE FROM federated.personal_part AS p WHERE p.workspace = workspace RETURNING 1)
    SELECT count(*) INTO destroyed FROM gone;
    PERFORM federated._destroy_delivered(s.model_name, d)
    FROM federated.delivered_version AS d JOIN federated.subscription AS s USING (subscription_id)
    WHERE s.workspace = workspace AND d.personal_run IS NOT NULL AND d.prediction <> '{}' AND d.retired_at IS NULL;
    RETURN destroyed;
END
$$;
COMMENT ON FUNCTION federated._destroy_personal(text) IS
    'Destroys the node''s own parts of all models of a workspace, and the numbers of versions that predict with them; returns how many parts';

-- Runs as federated_owner: a participant''s DBA drops subscriptions, and reads and writes nothing that is sealed.
CREATE FUNCTION federated._drop_personal() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM federated.personal_part AS p WHERE p.workspace = OLD.workspace AND p.model_name = OLD.model_name;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION federated._drop_personal() IS
    'Destroys the node''s own parts of a model that it subscribes to no more, or that its coordinator knows no more';

CREATE TRIGGER drop_personal AFTER DELETE ON federated.subscription
    FOR EACH ROW EXECUTE FUNCTION federated._drop_personal();
CREATE TRIGGER forget_personal AFTER UPDATE OF heard_outcome ON federated.subscription
    FOR EACH ROW WHEN (NEW.heard_outcome = 'unknown') EXECUTE FUNCTION federated._drop_personal();

CREATE VIEW @extschema@.federated_personal_models AS
SELECT p.workspace, p.model_name, p.run_id AS run, p.way AS personalization, p.made_at,
       (p.figures ->> 'rows')::bigint AS held_out_rows,
       (p.figures #>> '{global,loss}')::double precision AS global_loss,
       (p.figures #>> '{personal,loss}')::double precision AS personal_loss,
       (p.figures #>> '{global,accuracy}')::double precision AS global_accuracy,
       (p.figures #>> '{personal,accuracy}')::double precision AS personal_accuracy,
       (p.figures #>> '{global,rmse}')::double precision AS global_rmse,
       (p.figures #>> '{personal,rmse}')::double precision AS personal_rmse,
       (SELECT max(d.version) FROM federated.delivered_version AS d JOIN federated.subscription AS s USING (subscription_id)
        WHERE s.workspace = p.workspace AND d.personal_run = p.run_id AND d.is_current AND d.retired_at IS NULL) AS predicts_version
FROM federated.personal_part AS p;
COMMENT ON VIEW @extschema@.federated_personal_models IS
    'At a participant: the models of which its node has a part of its own, and how that does beside the version that all have';
COMMENT ON COLUMN @extschema@.federated_personal_models.workspace IS 'The workspace in which the model is trained';
COMMENT ON COLUMN @extschema@.federated_personal_models.model_name IS 'The model, as its coordinator calls it';
COMMENT ON COLUMN @extschema@.federated_personal_models.run IS 'The run at whose end the part was made';
COMMENT ON COLUMN @extschema@.federated_personal_models.personalization IS 'How: fine_tune, local_head or ditto';
COMMENT ON COLUMN @extschema@.federated_personal_models.made_at IS 'When';
COMMENT ON COLUMN @extschema@.federated_personal_models.held_out_rows IS 'Over how many rows the figures are: those that the node held out of the run';
COMMENT ON COLUMN @extschema@.federated_personal_models.global_loss IS 'The loss of the version that all have';
COMMENT ON COLUMN @extschema@.federated_personal_models.personal_loss IS 'The loss of the node''s own model';
COMMENT ON COLUMN @extschema@.federated_personal_models.global_accuracy IS 'The accuracy of the version that all have; NULL of a number, and where a cell of the confusion is too small';
COMMENT ON COLUMN @extschema@.federated_personal_models.personal_accuracy IS 'The accuracy of the node''s own model; NULL as before';
COMMENT ON COLUMN @extschema@.federated_personal_models.global_rmse IS 'The root mean square error of the version that all have; NULL of classes';
COMMENT ON COLUMN @extschema@.federated_personal_models.personal_rmse IS 'The root mean square error of the node''s own model; NULL of classes';
COMMENT ON COLUMN @extschema@.federated_personal_models.predicts_version IS
    'The version that the model''s function computes here with this part; NULL where it computes with none, or with another';
