-- Models that travel as files: what was exported from here, and what was imported. A file is numbers, names and labels; its functions
-- are made here, by what makes those of versions that were trained or delivered here.

CREATE TABLE federated.model_export (
    export_id      uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    workspace      text NOT NULL DEFAULT '',
    model_name     text NOT NULL,
    version        integer NOT NULL CHECK (version > 0),
    exported_by    name NOT NULL DEFAULT current_user,
    exported_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    transaction_id xid8 NOT NULL DEFAULT pg_current_xact_id()
);
COMMENT ON TABLE federated.model_export IS 'Which versions were read to leave as files, and by whom: no copy can be taken back, so those who have one must be told';
COMMENT ON COLUMN federated.model_export.transaction_id IS 'The transaction that reads it: in no other one are its numbers handed out for this line';

SELECT pg_catalog.pg_extension_config_dump('federated.model_export', '');

-- Whose a version is decides who may take it away: as with everything else that changes who has a model. A line that could be written
-- for what federated_export_model refuses would hand out its numbers all the same. What is imported is of no workspace: which one its file
-- names is the file's word, and nothing is written into that one's log for it.
CREATE FUNCTION federated._check_export_owner() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    trained    bigint;
    held_owner name;
    subject    record;
BEGIN
    IF (SELECT r.rolsuper FROM pg_roles AS r WHERE r.rolname = current_user)
       AND (NEW.exported_at < transaction_timestamp() OR NEW.transaction_id <> pg_current_xact_id()) THEN
        -- A dump is restored.
        RETURN NEW;
    END IF;
    SELECT m.model_id, w.name INTO trained, NEW.workspace
    FROM federated.model AS m JOIN federated.workspace AS w USING (workspace_id) WHERE m.name = NEW.model_name;
    IF FOUND THEN
        PERFORM federated._require_model_owner(trained);
    ELSE
        SELECT h.owner, h.workspace INTO held_owner, NEW.workspace FROM (
            SELECT s.model_name, s.owner, s.workspace FROM federated.subscription AS s
            UNION ALL SELECT i.name, i.owner, '' FROM federated.imported_model AS i
        ) AS h WHERE h.model_name = NEW.model_name;
        IF NOT FOUND THEN
            RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('federated model "%s" does not exist', NEW.model_name);
        ELSIF NOT federated._has_role(held_owner) THEN
            RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
                MESSAGE = format('must be owner of federated model "%s"', NEW.model_name),
                DETAIL = format('It was subscribed to or imported by %s.', quote_ident(held_owner));
        END IF;
    END IF;
    SELECT v.is_retired, v.is_withheld, v.prediction ? 'sealed' AS is_sealed INTO subject
    FROM federated.held_version AS v WHERE v.model_name = NEW.model_name AND v.version = NEW.version;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = format('version %s of federated model "%s" does not exist', NEW.version, NEW.model_name);
    ELSIF subject.is_retired OR subject.is_withheld THEN
        PERFORM federated._refuse_withdrawn(NEW.model_name, NEW.version, subject.is_retired);
    ELSIF subject.is_sealed THEN
        PERFORM federated._refuse_sealed(NEW.model_name, NEW.version, 'it does not leave as a file');
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION federated._check_export_owner() IS
    'Lets a version that predicts be exported, by members of its owner role alone, and notes whose workspace it is of: empty for one that was imported';

CREATE TRIGGER check_owner BEFORE INSERT ON federated.model_export
    FOR EACH ROW EXECUTE FUNCTION federated._check_export_owner();

CREATE FUNCTION federated._claimed_origin(origin jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_strip_nulls(jsonb_build_object('held', left(origin ->> 'held', 200), 'workspace', left(origin ->> 'workspace', 200),
        'model', left(origin ->> 'model', 200), 'version_key', left(origin ->> 'version_key', 200),
        'exported_at', left(origin ->> 'exported_at', 200)))
$$;
COMMENT ON FUNCTION federated._claimed_origin(jsonb) IS 'Of what a file says of where it is from what the audit log keeps: texts of at most 200 characters';

CREATE FUNCTION federated._audit_model_export() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO federated.audit (workspace, session_role, acting_role, action, object_kind, object_name, details)
    VALUES (NEW.workspace, session_user,
            CASE WHEN current_setting('role') = 'none' THEN session_user ELSE current_setting('role')::name END,
            'insert', 'model_export', NEW.model_name, jsonb_strip_nulls(jsonb_build_object('version', NEW.version, 'origin', (
                SELECT federated._claimed_origin(i.origin) FROM federated.imported_model AS i WHERE i.name = NEW.model_name))));
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION federated._audit_model_export() IS
    'Appends to the audit log that a version was read to leave as a file; of one that was imported with where its file says that it is from';

CREATE TRIGGER audit AFTER INSERT ON federated.model_export
    FOR EACH ROW EXECUTE FUNCTION federated._audit_model_export();

-- What numpy computes by is nobody's to read but with a line that says so.
CREATE FUNCTION federated._exported_arrays(export_id uuid) RETURNS bytea
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    subject record;
BEGIN
    SELECT v.model_name, v.version, v.prediction_arrays, v.is_retired, v.is_withheld INTO subject
    FROM federated.model_export AS e JOIN federated.held_version AS v USING (model_name, version)
    -- A line that a restored dump brought may have the number of a transaction of this server.
    WHERE e.export_id = _exported_arrays.export_id AND e.transaction_id = pg_current_xact_id() AND e.exported_at >= transaction_timestamp();
    -- What was withdrawn since the line was written is not handed out either.
    IF subject.is_retired OR subject.is_withheld THEN
        PERFORM federated._refuse_withdrawn(subject.model_name, subject.version, subject.is_retired);
    END IF;
    RETURN subject.prediction_arrays;
END
$$;
COMMENT ON FUNCTION federated._exported_arrays(uuid) IS
    'The arrays of a version whose export this transaction has noted, else NULL; 55000 for a version that was retired or is withheld';

CREATE FUNCTION federated._export_origin(model_name text, version integer, numbers_id uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    origin jsonb;
BEGIN
    origin := (
        SELECT jsonb_build_object('held', 'trained', 'workspace', w.name, 'version_key', numbers_id, 'parameters_sha256', encode(v.sha256, 'hex'))
        FROM federated.version AS v JOIN federated.model AS m USING (model_id) JOIN federated.workspace AS w USING (workspace_id)
        WHERE m.name = model_name AND v.version = version);
    origin := coalesce(origin, (
        SELECT jsonb_build_object('held', 'delivered', 'workspace', s.workspace, 'version_key', d.version_key)
        FROM federated.delivered_version AS d JOIN federated.subscription AS s USING (subscription_id)
        WHERE s.model_name = model_name AND d.version = version));
    origin := coalesce(origin, (
        SELECT jsonb_build_object('held', 'imported', 'workspace', i.origin ->> 'workspace', 'version_key', i.origin ->> 'version_key')
        FROM federated.imported_model AS i WHERE i.name = model_name));
    RETURN origin || jsonb_build_object('model', model_name, 'exported_at',
        to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'));
END
$$;
COMMENT ON FUNCTION federated._export_origin(text, integer, uuid) IS 'What a file says of where its version is from';

CREATE FUNCTION federated._export_card(model_name text, version integer) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
BEGIN
    IF EXISTS (SELECT FROM federated.model AS m WHERE m.name = model_name) THEN
        RETURN @extschema@.federated_model_card(model_name || '@' || version);
    END IF;
    RETURN (SELECT i.card FROM federated.imported_model AS i WHERE i.name = model_name);
END
$$;
COMMENT ON FUNCTION federated._export_card(text, integer) IS 'The card that goes with a version; NULL where this database has none, of one that was delivered';

CREATE FUNCTION federated._export_delivery(model_name text, version integer) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_build_object('header', translate(encode(d.header, 'base64'), E'\n', ''), 'signature', translate(encode(d.signature, 'base64'), E'\n', ''),
               'certificate_sha256', encode(d.certificate_sha256, 'hex'))
    FROM federated.delivered_version AS d JOIN federated.subscription AS s USING (subscription_id)
    WHERE s.model_name = _export_delivery.model_name AND d.version = _export_delivery.version
$$;
COMMENT ON FUNCTION federated._export_delivery(text, integer) IS 'What the coordinator signed of a version that was delivered here; NULL of any other one';

CREATE FUNCTION @extschema@.federated_export_model(model text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    subject record;
    line    uuid;
    content text;
    arrays  bytea;
BEGIN
    SELECT f.* INTO subject FROM federated._find_held(model) AS f;
    IF subject.prediction IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('version %s of federated model "%s" cannot be exported', subject.version, subject.model_name),
            DETAIL = 'It was made by a release that did not keep the numbers of a version.', HINT = 'Train the model anew.';
    END IF;
    INSERT INTO federated.model_export (model_name, version) VALUES (subject.model_name, subject.version) RETURNING export_id INTO line;
    arrays := federated._exported_arrays(line);
    IF octet_length(arrays) > 104857600 THEN
        RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded',
            MESSAGE = format('version %s of federated model "%s" is too large to be exported', subject.version, subject.model_name),
            DETAIL = format('Its arrays have %s bytes, and at most 104857600 go into a file.', octet_length(arrays));
    END IF;
    content := federated._predicting(subject.prediction)::text;
    RETURN jsonb_build_object(
        'format', 'heliosdb-model', 'format_version', 1, 'model', subject.model_name, 'version', subject.version,
        'features', subject.features, 'contract', subject.contract, 'prediction', content,
        'arrays', translate(encode(arrays, 'base64'), E'\n', ''),
        'content_sha256', encode(sha256(convert_to(content, 'UTF8') || coalesce(arrays, '')), 'hex'),
        'origin', federated._export_origin(subject.model_name, subject.version, subject.numbers_id),
        'delivery', federated._export_delivery(subject.model_name, subject.version),
        'card', federated._export_card(subject.model_name, subject.version),
        'notice', 'This is a copy. Erasures at its origin do not reach it: who holds it must drop it when told to.');
END
$$;
COMMENT ON FUNCTION @extschema@.federated_export_model(text) IS
    'The current version of a model, or the one that model@tag or model@number names, as it travels in a file: how it predicts, where it is from, its card, and of one that was delivered here what the coordinator signed. For members of the model''s owner role; the audit log has an entry for each. 55000 for a version that was retired, is withheld, or whose numbers were not kept';

-- Names are one space for models that are trained, subscribed to and imported.
CREATE FUNCTION federated._check_imported_model() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    foreign_function regprocedure;
BEGIN
    IF NEW.name = '' OR octet_length(NEW.name) > 63 OR strpos(NEW.name, '@') > 0 OR NEW.name ~ '[[:cntrl:]]' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'a model that is imported cannot be called so',
            DETAIL = 'A name has 1 to 63 bytes, no @ and no control characters.', HINT = 'Import it under another name.';
    END IF;
    PERFORM federated._lock_model_name(NEW.name);
    foreign_function := (
        SELECT min(p.oid::regprocedure::text)::regprocedure FROM pg_proc AS p
        WHERE p.pronamespace IN ('federated_model'::regnamespace, 'federated_row'::regnamespace, 'federated_proba'::regnamespace)
          AND (p.proname::text = NEW.name OR starts_with(p.proname::text, NEW.name || '@'))
          AND p.proowner <> 'federated_owner'::regrole);
    IF EXISTS (SELECT FROM federated.model AS m WHERE m.name = NEW.name OR starts_with(m.name, NEW.name || '@'))
       OR EXISTS (SELECT FROM federated.subscription AS s WHERE s.model_name = NEW.name)
       OR EXISTS (SELECT FROM federated.imported_model AS i WHERE i.name = NEW.name) THEN
        RAISE EXCEPTION USING ERRCODE = 'duplicate_object',
            MESSAGE = format('federated model "%s" already exists in this database', NEW.name),
            HINT = 'Import it under another name.';
    ELSIF foreign_function IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'duplicate_function',
            MESSAGE = format('function %s already exists and belongs to no federated model', foreign_function),
            HINT = 'Drop or rename it, or import the model under another name.';
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION federated._check_imported_model() IS 'Lets a model be imported only where nothing else has its name';

CREATE TRIGGER check_name BEFORE INSERT ON federated.imported_model
    FOR EACH ROW EXECUTE FUNCTION federated._check_imported_model();

CREATE FUNCTION federated._check_import_owner() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT federated._has_role(OLD.owner) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = format('must be owner of federated model "%s"', OLD.name),
            DETAIL = format('Its owner is %s.', quote_ident(OLD.owner));
    END IF;
    RETURN OLD;
END
$$;
COMMENT ON FUNCTION federated._check_import_owner() IS 'Keeps an imported model for members of its owner role';

CREATE TRIGGER check_owner BEFORE DELETE ON federated.imported_model
    FOR EACH ROW EXECUTE FUNCTION federated._check_import_owner();

-- Checked as what was delivered is: whoever may write the row chooses numbers and names, and nothing that would be code.
CREATE FUNCTION federated._make_imported_functions(made federated.imported_model) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own_name    text := made.name || '@' || made.version;
    description text := format('Version %s of federated model %s, imported', made.version, made.name);
    booleans    boolean[];
BEGIN
    PERFORM federated._check_delivery(made.features, made.contract, made.prediction, made.prediction_arrays);
    PERFORM federated._check_scored(made.features, made.prediction, made.prediction_arrays);
    -- Restoring a dump brings functions before rows.
    IF EXISTS (SELECT FROM federated._list_functions(made.name) AS f) THEN
        RETURN;
    END IF;
    booleans := federated._flags(made.prediction);
    PERFORM federated._define_prediction(made.name, description, made.features, booleans, made.prediction, made.import_id);
    IF octet_length(own_name) <= 63 THEN
        PERFORM federated._define_prediction(own_name, description, made.features, booleans, made.prediction, made.import_id);
    END IF;
    PERFORM federated._try_prediction(made.name, made.prediction);
END
$$;
COMMENT ON FUNCTION federated._make_imported_functions(federated.imported_model) IS
    'Makes the functions of a model that was imported, once its numbers were looked at; they are called once';

-- Runs as federated_owner, the only role that may create anything in federated_model.
CREATE FUNCTION federated._keep_imported_functions() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    model_function regprocedure;
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM federated._make_imported_functions(NEW);
        RETURN NULL;
    END IF;
    FOR model_function IN SELECT f.oid FROM federated._list_functions(OLD.name) AS f (oid) LOOP
        EXECUTE format('DROP FUNCTION %s RESTRICT', model_function);
    END LOOP;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION federated._keep_imported_functions() IS 'Makes and drops the functions of a model with its import; 2BP01 where other objects depend on them';

CREATE TRIGGER keep_imported_functions AFTER INSERT OR DELETE ON federated.imported_model
    FOR EACH ROW EXECUTE FUNCTION federated._keep_imported_functions();

CREATE FUNCTION federated._audit_import() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    subject federated.imported_model := coalesce(NEW, OLD);
BEGIN
    INSERT INTO federated.audit (workspace, session_role, acting_role, action, object_kind, object_name, details)
    VALUES ('', session_user,
            CASE WHEN current_setting('role') = 'none' THEN session_user ELSE current_setting('role')::name END,
            lower(TG_OP), 'imported_model', subject.name, jsonb_strip_nulls(jsonb_build_object(
                'version', subject.version, 'origin', federated._claimed_origin(subject.origin), 'file_sha256', encode(subject.file_sha256, 'hex'),
                'signature', subject.signature, 'signed_by', subject.signed_by)));
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION federated._audit_import() IS 'Appends to the audit log what was imported, from where, and what was dropped of it';

CREATE TRIGGER audit AFTER INSERT OR DELETE ON federated.imported_model
    FOR EACH ROW EXECUTE FUNCTION federated._audit_import();

-- Types and sizes of all that a file may say, before anything of it is cast.
CREATE FUNCTION federated._check_document(document jsonb) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    wrong text;
BEGIN
    IF jsonb_typeof(document) IS DISTINCT FROM 'object' OR document -> 'format' IS DISTINCT FROM '"heliosdb-model"' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'this is no exported model',
            HINT = 'heliosdb export MODEL --format json writes one.';
    ELSIF document -> 'format_version' IS DISTINCT FROM '1' THEN
        RAISE EXCEPTION USING ERRCODE = 'feature_not_supported',
            MESSAGE = format('exported models of format version %s are not supported', left(document ->> 'format_version', 20)),
            DETAIL = 'This release reads format version 1.', HINT = 'Update the extension, or export the model with this release.';
    END IF;
    wrong := CASE
        WHEN EXISTS (SELECT FROM jsonb_object_keys(document) AS k WHERE k NOT IN (
            'format', 'format_version', 'model', 'version', 'features', 'contract', 'prediction', 'arrays', 'content_sha256', 'origin',
            'delivery', 'card', 'notice', 'sha256')) THEN 'it has a member that none has'
        WHEN jsonb_typeof(document -> 'model') IS DISTINCT FROM 'string' THEN 'model is no name'
        WHEN jsonb_typeof(document -> 'version') IS DISTINCT FROM 'number' OR document ->> 'version' !~ '^[1-9][0-9]{0,8}$' THEN 'version is no number of one'
        WHEN jsonb_typeof(document -> 'features') IS DISTINCT FROM 'array' OR jsonb_array_length(document -> 'features') NOT BETWEEN 1 AND 1600
             OR jsonb_path_exists(document, 'strict $.features[*] ? (@.type() != "string")') THEN 'features are no names'
        WHEN jsonb_typeof(document -> 'contract') IS DISTINCT FROM 'object' THEN 'contract is no object'
        WHEN jsonb_typeof(document -> 'origin') IS DISTINCT FROM 'object' THEN 'origin is no object'
        WHEN octet_length(document ->> 'origin') > 4096 OR jsonb_path_exists(document, 'strict $.origin.* ? (@.type() != "string" && @.type() != "null")')
            THEN 'origin has other than short texts'
        WHEN jsonb_typeof(document -> 'prediction') IS DISTINCT FROM 'string' THEN 'prediction is no text'
        WHEN coalesce(jsonb_typeof(document -> 'arrays'), 'null') NOT IN ('string', 'null') THEN 'arrays are no text'
        WHEN document ->> 'arrays' !~ '^[A-Za-z0-9+/]*={0,2}$' OR length(document ->> 'arrays') % 4 <> 0 THEN 'arrays are not of base64'
        WHEN coalesce(document ->> 'content_sha256', '') !~ '^[0-9a-f]{64}$' THEN 'content_sha256 is no SHA-256'
        WHEN coalesce(jsonb_typeof(document -> 'card'), 'null') NOT IN ('object', 'null') THEN 'card is no object' END;
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'this is no exported model', DETAIL = format('In it %s.', wrong);
    ELSIF octet_length(document ->> 'prediction') > 67108864 OR octet_length(document ->> 'arrays') > 139810136 THEN
        RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded', MESSAGE = 'the exported model is too large',
            DETAIL = 'A prediction has at most 64 MiB, its arrays 100 MiB.';
    END IF;
END
$$;
COMMENT ON FUNCTION federated._check_document(jsonb) IS 'Raises an error where a document is none that federated_export_model returns: 22023, 0A000 of another format version, 54000';

CREATE FUNCTION @extschema@.federated_import_model(
    document jsonb, name text DEFAULT NULL, file_sha256 bytea DEFAULT NULL, signature text DEFAULT 'unchecked', signed_by text DEFAULT NULL
) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    called  text := coalesce(name, document ->> 'model');
    content text := document ->> 'prediction';
    arrays  bytea;
    numbers jsonb;
BEGIN
    PERFORM federated._check_document(document);
    arrays := decode(document ->> 'arrays', 'base64');
    IF encode(sha256(convert_to(content, 'UTF8') || coalesce(arrays, '')), 'hex') <> document ->> 'content_sha256' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'the exported model was changed or damaged',
            DETAIL = 'Its numbers are not those of which content_sha256 is the hash.';
    ELSIF coalesce(document #>> '{contract,algorithm}', '') NOT IN (
        'logistic_regression', 'linear_regression', 'poisson_regression', 'cox_regression', 'neural_network', 'cnn', 'lstm', 'gru', 'transformer',
        'random_forest', 'gradient_boosting') THEN
        RAISE EXCEPTION USING ERRCODE = 'feature_not_supported',
            MESSAGE = format('there is no algorithm "%s" here', left(coalesce(document #>> '{contract,algorithm}', ''), 63));
    END IF;
    BEGIN
        numbers := content::jsonb;
        -- None has more than four; what goes through it would come to the end of its stack.
        IF jsonb_path_exists(numbers, '$.**{17 to last}') THEN
            RAISE program_limit_exceeded;
        END IF;
    EXCEPTION WHEN invalid_text_representation OR untranslatable_character OR numeric_value_out_of_range OR program_limit_exceeded THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'this is no exported model',
            DETAIL = 'In it prediction is no JSON, or is nested deeper than 16 levels.';
    END;
    INSERT INTO federated.imported_model AS i (name, version, features, contract, prediction, prediction_arrays, origin, card, file_sha256, signature, signed_by)
    VALUES (called, (document ->> 'version')::integer,
            ARRAY(SELECT f.feature FROM jsonb_array_elements_text(document -> 'features') WITH ORDINALITY AS f (feature, place) ORDER BY f.place),
            document -> 'contract', numbers, arrays, document -> 'origin', nullif(document -> 'card', 'null'), file_sha256, signature, signed_by);
    RETURN called;
END
$$;
COMMENT ON FUNCTION @extschema@.federated_import_model(jsonb, text, bytea, text, text) IS
    'Makes a model of what federated_export_model returned, here or in another database, under its own name or another; returns the name. It predicts as it did there, to the bit: it is not trained further, tagged or delivered. signature (verified, delivery, none, unchecked) and signed_by are what the importer says of the file. 22023 for what was changed, damaged or is none, 0A000 for a newer format or an algorithm that is not here, 42710 where the name is taken';

CREATE FUNCTION @extschema@.federated_drop_imported_model(model text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM federated.imported_model AS i WHERE i.name = model;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = format('no federated model "%s" was imported into this database', model);
    END IF;
END
$$;
COMMENT ON FUNCTION @extschema@.federated_drop_imported_model(text) IS
    'Drops a model that was imported, its numbers and its functions; 2BP01 where other objects depend on these';

CREATE VIEW @extschema@.federated_model_imports AS
SELECT i.name AS model_name, i.version, i.contract ->> 'algorithm' AS algorithm, i.contract ->> 'target' AS target, i.features,
       i.origin ->> 'model' AS origin_model, i.origin ->> 'workspace' AS origin_workspace, i.origin ->> 'version_key' AS origin_key,
       i.origin ->> 'exported_at' AS exported_at, encode(i.file_sha256, 'hex') AS file_sha256, i.signature, i.signed_by, i.card, i.owner,
       i.imported_at
FROM federated.imported_model AS i;
COMMENT ON VIEW @extschema@.federated_model_imports IS 'The models that were imported from files, and where they are from';
COMMENT ON COLUMN @extschema@.federated_model_imports.model_name IS 'The model''s name here: federated_predict names it so';
COMMENT ON COLUMN @extschema@.federated_model_imports.version IS 'The number of the version where it was exported';
COMMENT ON COLUMN @extschema@.federated_model_imports.algorithm IS 'The algorithm that it was trained by';
COMMENT ON COLUMN @extschema@.federated_model_imports.target IS 'The column that it predicts';
COMMENT ON COLUMN @extschema@.federated_model_imports.features IS 'The columns that it predicts from';
COMMENT ON COLUMN @extschema@.federated_model_imports.origin_model IS 'Its name where it was exported, as the file says';
COMMENT ON COLUMN @extschema@.federated_model_imports.origin_workspace IS 'The workspace in which it was trained, as the file says';
COMMENT ON COLUMN @extschema@.federated_model_imports.origin_key IS 'The version''s own name where it was trained, as the file says: no other version has it';
COMMENT ON COLUMN @extschema@.federated_model_imports.exported_at IS 'When it was exported, as the file says';
COMMENT ON COLUMN @extschema@.federated_model_imports.file_sha256 IS 'SHA-256 of the file, hexadecimal; NULL where the importer did not say';
COMMENT ON COLUMN @extschema@.federated_model_imports.signature IS
    'What the importer found: verified, the whole file was signed by a certificate that they brought; delivery, by that one its numbers, as it delivered them: nothing else of the file was kept, and the version may not be current any more; none, the file had none or none was looked at; unchecked where they do not say';
COMMENT ON COLUMN @extschema@.federated_model_imports.signed_by IS 'SHA-256 of the certificate whose key signed, hexadecimal; NULL unless signature is verified or delivery';
COMMENT ON COLUMN @extschema@.federated_model_imports.card IS 'The model card that came with it; NULL where none did';
COMMENT ON COLUMN @extschema@.federated_model_imports.owner IS 'Whose it is here: the role that imported it';
COMMENT ON COLUMN @extschema@.federated_model_imports.imported_at IS 'When it was imported';

CREATE VIEW @extschema@.federated_model_exports AS
SELECT e.workspace, e.model_name, e.version, e.exported_by, e.exported_at FROM federated.model_export AS e;
COMMENT ON VIEW @extschema@.federated_model_exports IS 'The versions that left as files, and by whom: an erasure does not reach these copies, so their holders must be told';
COMMENT ON COLUMN @extschema@.federated_model_exports.workspace IS 'The workspace in which the version was trained; empty for a model that was imported';
COMMENT ON COLUMN @extschema@.federated_model_exports.model_name IS 'The model, by its name at the time';
COMMENT ON COLUMN @extschema@.federated_model_exports.version IS 'The number of the version';
COMMENT ON COLUMN @extschema@.federated_model_exports.exported_by IS 'The role that exported it';
COMMENT ON COLUMN @extschema@.federated_model_exports.exported_at IS 'When';
