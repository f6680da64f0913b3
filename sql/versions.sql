-- Versions and tags, each with a function federated_model."<model>@<number or tag>", and which version is current.
-- A version's numbers come from a run; statements only choose among them.

CREATE TABLE federated.tag (
    model_id   bigint NOT NULL,
    name       text NOT NULL,
    version    integer NOT NULL,
    created_by name NOT NULL DEFAULT current_user,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (model_id, name),
    FOREIGN KEY (model_id, version) REFERENCES federated.version (model_id, version) ON DELETE CASCADE
);
CREATE INDEX tag_by_version ON federated.tag (model_id, version);
COMMENT ON TABLE federated.tag IS 'Names that a model''s versions were given; a tag moves to another version by TAG ... REPLACE alone';

-- 42704 with what there is: whoever mistypes a tag sees the right one.
CREATE FUNCTION federated._version_number(model text, label text) RETURNS integer
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    subject bigint := (SELECT m.model_id FROM federated.model AS m WHERE m.name = model);
    dropped integer := (SELECT m.dropped_version FROM federated.model AS m WHERE m.model_id = subject);
    wanted  integer := CASE WHEN label ~ '^[0-9]+$'
        THEN (SELECT v.version FROM federated.version AS v WHERE v.model_id = subject AND v.version = label::numeric)
        ELSE (SELECT t.version FROM federated.tag AS t WHERE t.model_id = subject AND t.name = label) END;
    numbers text;
    tags    text;
BEGIN
    IF subject IS NULL THEN
        IF EXISTS (SELECT FROM federated.subscription AS s WHERE s.model_name = model)
           OR EXISTS (SELECT FROM federated.imported_model AS i WHERE i.name = model) THEN
            RETURN federated._held_number(model, label);
        END IF;
        PERFORM federated._model_id(model);
    END IF;
    IF wanted IS NULL THEN
        numbers := (SELECT string_agg(k.version::text, ', ' ORDER BY k.version) FROM (
            SELECT v.version FROM federated.version AS v WHERE v.model_id = subject ORDER BY v.version DESC LIMIT 20) AS k);
        tags := (SELECT string_agg(format('"%s"', k.name), ', ' ORDER BY k.name) FROM (
            SELECT t.name FROM federated.tag AS t WHERE t.model_id = subject ORDER BY t.created_at DESC LIMIT 20) AS k);
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = format('federated model "%s" has no version "%s"', model, label),
            DETAIL = CASE WHEN label ~ '^[1-9][0-9]*$' AND label::numeric <= dropped THEN format('Version %s was dropped.', label)
                WHEN numbers IS NULL THEN 'It has no trained version yet.'
                ELSE format('Its latest versions are %s; its latest tags %s.', numbers, coalesce(tags, 'none')) END,
            HINT = format('SELECT version, tags FROM federated_model_versions(%L) shows all.', model);
    END IF;
    RETURN wanted;
END
$$;
COMMENT ON FUNCTION federated._version_number(text, text) IS 'The version that a tag or number of a model names, or error 42704';

CREATE FUNCTION federated._json_numbers(numbers jsonb) RETURNS double precision[]
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(array_agg(n.number::double precision ORDER BY n.place), '{}')
    FROM jsonb_array_elements_text(numbers) WITH ORDINALITY AS n (number, place)
$$;
COMMENT ON FUNCTION federated._json_numbers(jsonb) IS 'A JSON array of numbers as an array';

-- The next five run as federated_owner: the first is called by the others, which are DEFINER.
CREATE FUNCTION federated._define_version(function_name text, description text, model_id bigint, version integer) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    subject federated.version;
BEGIN
    SELECT v.* INTO STRICT subject FROM federated.version AS v
    WHERE v.model_id = _define_version.model_id AND v.version = _define_version.version;
    PERFORM federated._define_prediction(
        function_name, description, subject.features,
        ARRAY(SELECT f.flag::boolean FROM jsonb_array_elements_text(subject.prediction -> 'booleans')
              WITH ORDINALITY AS f (flag, place) ORDER BY f.place),
        subject.prediction, federated._version_key(subject.run_id, version));
    IF subject.withheld THEN
        PERFORM federated._write_refusal(function_name, w.message, w.hint)
        FROM federated.model AS m CROSS JOIN federated._why_withdrawn(m.name, version, false, NULL) AS w
        WHERE m.model_id = _define_version.model_id;
    END IF;
END
$$;
COMMENT ON FUNCTION federated._define_version(text, text, bigint, integer) IS
    'Makes a function that computes a stored version from what is kept of its prediction';

-- What has a function already keeps it: restoring a dump brings functions before rows.
CREATE FUNCTION federated._label_functions(model_id bigint, version integer) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    label record;
BEGIN
    FOR label IN
        SELECT v.version, m.name || '@' || k.name AS function_name, v.prediction IS NOT NULL AS is_known,
               federated._describe_version(m.name, v.version, v.run_id)
                   || CASE WHEN k.is_tag THEN format(', tagged %s', k.name) ELSE '' END AS description,
               (SELECT p.oid::regprocedure FROM pg_proc AS p WHERE p.pronamespace = 'federated_model'::regnamespace
                  AND p.proname::text = m.name || '@' || k.name) AS existing
        FROM federated.version AS v
        JOIN federated.model AS m USING (model_id)
        CROSS JOIN LATERAL (
            SELECT v.version::text, false UNION ALL
            SELECT t.name, true FROM federated.tag AS t WHERE t.model_id = v.model_id AND t.version = v.version
        ) AS k (name, is_tag)
        WHERE v.model_id = _label_functions.model_id
          -- A model may have such a name from before _check_model_name refused it.
          AND NOT EXISTS (SELECT FROM federated.model AS o WHERE o.name = m.name || '@' || k.name)
          AND (_label_functions.version IS NULL OR v.version = _label_functions.version)
    LOOP
        IF label.existing IS NOT NULL THEN
            EXECUTE format('COMMENT ON FUNCTION %s IS %L', label.existing, label.description);
        ELSIF label.is_known AND octet_length(label.function_name) <= 63 THEN
            PERFORM federated._define_version(label.function_name, label.description, model_id, label.version);
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION federated._label_functions(bigint, integer) IS
    'Makes what functions are missing for a version (NULL: all) and its tags, and describes those that are there; a version whose function''s name would be longer than 63 bytes has none';

CREATE FUNCTION federated._rename_functions(model_id bigint, old_name text, new_name text, features jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    model_function regprocedure;
    renamed        text;
    current        record;
BEGIN
    FOR model_function, renamed IN
        SELECT f.oid, new_name || substr(p.proname::text, length(old_name) + 1)
        FROM federated._list_functions(old_name) AS f (oid) JOIN pg_proc AS p ON p.oid = f.oid
    LOOP
        IF octet_length(renamed) > 63 THEN
            EXECUTE format('DROP FUNCTION %s', model_function);
        ELSE
            EXECUTE format('ALTER FUNCTION %s RENAME TO %I', model_function, renamed);
        END IF;
    END LOOP;
    -- What stands in federated_row calls by name what it is a form of.
    PERFORM federated._rewrite_row_functions(f.name) FROM (
        SELECT DISTINCT p.proname::text AS name
        FROM federated._list_functions(new_name) AS l (oid) JOIN pg_proc AS p ON p.oid = l.oid
        WHERE p.pronamespace = 'federated_row'::regnamespace AND p.pronargs = 2) AS f
    WHERE NOT EXISTS (SELECT FROM federated._list_withdrawn(model_id) AS w
                      WHERE w.is_shown AND f.name = new_name OR f.name IN (SELECT new_name || '@' || l FROM unnest(w.labels) AS l));
    SELECT v.version, v.run_id INTO current FROM federated.version AS v
    WHERE v.model_id = _rename_functions.model_id AND v.is_current;
    IF FOUND THEN
        PERFORM federated._finish_model_function(
            new_name, federated._describe_version(new_name, current.version, current.run_id));
    ELSIF NOT EXISTS (SELECT FROM federated._list_withdrawn(model_id) AS w WHERE w.is_shown) THEN
        PERFORM federated._write_untrained_function(new_name, features);
    END IF;
    PERFORM federated._label_functions(model_id, NULL);
    PERFORM federated._withdraw_functions(w.subject, w.is_shown) FROM federated._list_withdrawn(model_id) AS w;
END
$$;
COMMENT ON FUNCTION federated._rename_functions(bigint, text, text, jsonb) IS
    'Renames the functions of a model; what depends on them follows, and a version''s whose name would be too long is dropped';

-- Whoever stored what a tag computed, in an index say, would have another version's predictions there.
CREATE FUNCTION federated._move_tag(model_name text, moved federated.tag) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    function_name text := model_name || '@' || moved.name;
    obstacle      text;
BEGIN
    IF EXISTS (SELECT FROM federated.version AS v
               WHERE v.model_id = moved.model_id AND v.version = moved.version AND v.prediction IS NULL) THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('the tag "%s" of federated model "%s" cannot be moved to version %s', moved.name, model_name, moved.version),
            DETAIL = 'It was made by a release that did not keep the numbers of a version.';
    END IF;
    PERFORM federated._refuse_stored_predictions(function_name);
    PERFORM federated._define_version(
        function_name, (SELECT federated._describe_version(model_name, v.version, v.run_id) || format(', tagged %s', moved.name)
                        FROM federated.version AS v WHERE v.model_id = moved.model_id AND v.version = moved.version),
        moved.model_id, moved.version);
EXCEPTION WHEN dependent_objects_still_exist THEN
    GET STACKED DIAGNOSTICS obstacle = PG_EXCEPTION_DETAIL;
    RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist',
        MESSAGE = format('the tag "%s" of federated model "%s" cannot be moved: objects depend on its function as it is',
                         moved.name, model_name),
        DETAIL = obstacle,
        HINT = 'Drop these objects first, and make them again afterwards.';
END
$$;
COMMENT ON FUNCTION federated._move_tag(text, federated.tag) IS 'Makes the function of a tag compute the version that the tag was moved to';

CREATE FUNCTION federated._keep_version_functions() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    model_name text := (SELECT m.name FROM federated.model AS m WHERE m.model_id = coalesce(NEW.model_id, OLD.model_id));
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM federated._label_functions(NEW.model_id, NEW.version);
    ELSIF TG_OP = 'UPDATE' THEN
        PERFORM federated._move_tag(model_name, NEW);
    ELSIF model_name IS NOT NULL THEN
        -- A model that is dropped takes all along, and what depends on it where it is dropped so.
        PERFORM federated._drop_model_function(
            model_name || '@' || coalesce(to_jsonb(OLD) ->> 'name', OLD.version::text),
            coalesce(current_setting('federated.drop_behavior', true), 'restrict'));
        IF TG_TABLE_NAME = 'version' THEN
            UPDATE federated.model AS m SET dropped_version = greatest(m.dropped_version, OLD.version)
            WHERE m.model_id = OLD.model_id;
        END IF;
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION federated._keep_version_functions() IS 'Keeps a function for each version and each tag';

CREATE TRIGGER keep_version_functions AFTER INSERT OR DELETE ON federated.version
    FOR EACH ROW EXECUTE FUNCTION federated._keep_version_functions();
CREATE TRIGGER keep_version_functions AFTER INSERT OR DELETE OR UPDATE OF version ON federated.tag
    FOR EACH ROW EXECUTE FUNCTION federated._keep_version_functions();

-- Names of models and tags share one name space of functions: a name with @ in it would stand for a version.
CREATE FUNCTION federated._check_model_name() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    longest text := (SELECT t.name FROM federated.tag AS t WHERE t.model_id = NEW.model_id
                     ORDER BY octet_length(t.name) DESC LIMIT 1);
BEGIN
    -- A dump of a catalog that was made before this rule is restored by the table's owner.
    PERFORM federated._lock_model_name(NEW.name);
    IF EXISTS (SELECT FROM federated.subscription AS s WHERE s.model_name = NEW.name) THEN
        RAISE EXCEPTION USING ERRCODE = 'duplicate_object',
            MESSAGE = format('federated model "%s" is subscribed to in this database', NEW.name),
            DETAIL = 'Its functions have this name.';
    ELSIF EXISTS (SELECT FROM federated.imported_model AS i WHERE i.name = NEW.name) THEN
        RAISE EXCEPTION USING ERRCODE = 'duplicate_object',
            MESSAGE = format('federated model "%s" was imported into this database', NEW.name),
            DETAIL = 'Its functions have this name.',
            HINT = format('SELECT federated_drop_imported_model(%L) makes room.', NEW.name);
    ELSIF strpos(NEW.name, '@') > 0
       AND NOT pg_has_role((SELECT c.relowner FROM pg_class AS c WHERE c.oid = TG_RELID), 'USAGE') THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_name', MESSAGE = 'a model''s name must not contain @',
            HINT = 'model@tag names a version of a model.';
    ELSIF octet_length(NEW.name) > 63 OR octet_length(NEW.name || '@' || longest) > 63 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_name', MESSAGE = 'model name is too long',
            DETAIL = format('"%s" is the name of a function, which has at most 63 bytes.',
                            NEW.name || coalesce('@' || longest, ''));
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION federated._check_model_name() IS 'Keeps model names within what their functions can be called';

CREATE TRIGGER check_name BEFORE INSERT ON federated.model
    FOR EACH ROW EXECUTE FUNCTION federated._check_model_name();
CREATE TRIGGER refuse_name BEFORE UPDATE OF name ON federated.model
    FOR EACH ROW WHEN (NEW.name IS DISTINCT FROM OLD.name) EXECUTE FUNCTION federated._check_model_name();

CREATE FUNCTION federated._check_tag() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    model_name text := (SELECT m.name FROM federated.model AS m WHERE m.model_id = NEW.model_id);
BEGIN
    IF NEW.name ~ '^[0-9]*$' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = CASE NEW.name WHEN '' THEN 'a tag must not be empty'
                ELSE format('a tag must not be a number, as "%s" is', NEW.name) END,
            HINT = 'A number names a version.';
    ELSIF strpos(NEW.name, '@') > 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'a tag must not contain @';
    ELSIF EXISTS (SELECT FROM federated.model AS m WHERE m.name = model_name || '@' || NEW.name) THEN
        RAISE EXCEPTION USING ERRCODE = 'duplicate_object',
            MESSAGE = format('"%s" is the name of another federated model', model_name || '@' || NEW.name);
    ELSIF NEW.name ~ '[[:cntrl:]]' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_name', MESSAGE = 'a tag must not contain unprintable characters';
    ELSIF octet_length(model_name || '@' || NEW.name) > 63 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_name', MESSAGE = 'the tag is too long',
            DETAIL = format('"%s" is the name of its function, which has at most 63 bytes, not %s.',
                            model_name || '@' || NEW.name, octet_length(model_name || '@' || NEW.name));
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION federated._check_tag() IS 'Keeps tags apart from version numbers and within what their functions can be called';

CREATE TRIGGER check_owner BEFORE INSERT OR DELETE OR UPDATE ON federated.tag
    FOR EACH ROW EXECUTE FUNCTION federated._check_model_owner();
CREATE TRIGGER check_tag BEFORE INSERT ON federated.tag
    FOR EACH ROW EXECUTE FUNCTION federated._check_tag();

-- Making a version current is an UPDATE of is_current: the caller must own the model, and what follows is done for
-- them. The coordinator, which makes function and row itself when a run ends, inserts its version as current.
CREATE FUNCTION federated._check_current() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF current_user = 'federated_owner' OR pg_has_role('federated_daemon', 'USAGE') THEN
        RETURN NEW;
    END IF;
    PERFORM federated._require_model_owner(NEW.model_id);
    IF NOT NEW.is_current THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = 'a model that has a current version keeps one',
            HINT = 'Make another version current: ROLLBACK FEDERATED MODEL ... TO VERSION ...';
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION federated._check_current() IS 'Lets a model''s owners make a version current, and the coordinator retire one';

-- What goes with its model, or with its run, has no model to ask about any more.
CREATE FUNCTION federated._check_dropped_version() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    model_name text := (SELECT m.name FROM federated.model AS m WHERE m.model_id = OLD.model_id);
    tags       text := (SELECT string_agg(format('"%s"', t.name), ', ' ORDER BY t.name) FROM federated.tag AS t
                        WHERE t.model_id = OLD.model_id AND t.version = OLD.version);
BEGIN
    IF model_name IS NULL OR NOT EXISTS (SELECT FROM federated.run AS r WHERE r.run_id = OLD.run_id) THEN
        RETURN OLD;
    END IF;
    PERFORM federated._require_model_owner(OLD.model_id);
    IF OLD.is_current THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('version %s is the current one of federated model "%s"', OLD.version, model_name),
            HINT = 'PROMOTE FEDERATED MODEL ... VERSION ... makes another version current.';
    ELSIF tags IS NOT NULL AND coalesce(current_setting('federated.drop_behavior', true), '') <> 'cascade' THEN
        RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist',
            MESSAGE = format('version %s of federated model "%s" is tagged', OLD.version, model_name),
            DETAIL = format('Its tags are %s.', tags),
            HINT = 'DROP FEDERATED MODEL ... VERSION ... CASCADE drops them, and what depends on their functions.';
    END IF;
    RETURN OLD;
END
$$;
COMMENT ON FUNCTION federated._check_dropped_version() IS
    'Lets a model''s owners drop a version that is not current; one that is tagged only by CASCADE';

CREATE TRIGGER check_dropped BEFORE DELETE ON federated.version
    FOR EACH ROW EXECUTE FUNCTION federated._check_dropped_version();

CREATE FUNCTION federated._retire_current() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM federated._lock_publication(NEW.model_id);
    UPDATE federated.version AS v SET is_current = false
    WHERE v.model_id = NEW.model_id AND v.version <> NEW.version AND v.is_current;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION federated._retire_current() IS 'Retires the version that was current before another one becomes it';

CREATE FUNCTION federated._publish_version() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    model_name text := (SELECT m.name FROM federated.model AS m WHERE m.model_id = NEW.model_id);
    obstacle   text;
BEGIN
    IF NEW.prediction IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('version %s of federated model "%s" cannot be made current', NEW.version, model_name),
            DETAIL = 'It was made by a release that did not keep the numbers of a version.';
    END IF;
    PERFORM federated._define_version(
        model_name, federated._describe_version(model_name, NEW.version, NEW.run_id), NEW.model_id, NEW.version);
    RETURN NULL;
EXCEPTION WHEN dependent_objects_still_exist THEN
    GET STACKED DIAGNOSTICS obstacle = PG_EXCEPTION_DETAIL;
    RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist',
        MESSAGE = format('version %s of federated model "%s" cannot be made current: objects depend on the model''s function as it is',
                         NEW.version, model_name),
        DETAIL = obstacle,
        HINT = 'Drop these objects first, and make them again afterwards.';
END
$$;
COMMENT ON FUNCTION federated._publish_version() IS 'Makes a model''s function compute the version that became current';

CREATE TRIGGER check_owner BEFORE UPDATE OF is_current ON federated.version
    FOR EACH ROW EXECUTE FUNCTION federated._check_current();
CREATE TRIGGER retire_current BEFORE UPDATE OF is_current ON federated.version
    FOR EACH ROW WHEN (NEW.is_current AND NOT OLD.is_current) EXECUTE FUNCTION federated._retire_current();
CREATE TRIGGER publish_version AFTER UPDATE OF is_current ON federated.version
    FOR EACH ROW WHEN (NEW.is_current AND NOT OLD.is_current) EXECUTE FUNCTION federated._publish_version();
CREATE TRIGGER audit AFTER UPDATE OF is_current ON federated.version
    FOR EACH ROW WHEN (NEW.is_current AND NOT OLD.is_current) EXECUTE FUNCTION federated._audit();
CREATE TRIGGER audit_dropped AFTER DELETE ON federated.version
    FOR EACH ROW EXECUTE FUNCTION federated._audit();
CREATE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE ON federated.tag
    FOR EACH ROW EXECUTE FUNCTION federated._audit();

CREATE FUNCTION @extschema@.federated_model_versions(
    model text,
    OUT version integer, OUT tags text[], OUT round_number integer, OUT created_at timestamptz, OUT is_current boolean,
    OUT global_loss double precision, OUT global_accuracy double precision, OUT epsilon double precision,
    OUT parameters_sha256 text, OUT global_loss_std_error double precision, OUT global_accuracy_std_error double precision,
    OUT retired_at timestamptz, OUT parent text, OUT ancestors jsonb
) RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT v.version, ARRAY(SELECT t.name FROM federated.tag AS t
                            WHERE t.model_id = v.model_id AND t.version = v.version ORDER BY t.name),
           v.round_number, v.created_at, v.is_current, v.global_loss, v.global_accuracy, v.epsilon, encode(v.sha256, 'hex'),
           v.global_loss_std_error, v.global_accuracy_std_error, v.retired_at,
           federated._parent_name(v.run_id), federated._ancestors(v.run_id, w.name)
    FROM federated.version AS v JOIN federated.model AS m USING (model_id) JOIN federated.workspace AS w USING (workspace_id)
    WHERE v.model_id = federated._model_id(federated_model_versions.model)
    ORDER BY v.version
$$;
COMMENT ON FUNCTION @extschema@.federated_model_versions(text) IS
    'The versions of a model, one for each run that left one; round_number is the round that was published: the best evaluated one, or the last where keep_best is false or none was evaluated; loss and accuracy are NULL where the round was not evaluated, epsilon (the most charged node''s, over the whole workspace, when the run ended) without a budget; retired_at is set where data subjects were erased that the version had learned from, which predicts nothing since; parent is the version that its run began with (transfer_from), ancestors that and those before it, the nearest first: what those of another workspace cost comes on top of epsilon, as their note says; both are NULL of all others, and name models as they were called then';

CREATE FUNCTION federated._distance(a federated.version, b federated.version) RETURNS double precision
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN a.features = b.features AND a.prediction -> 'link' = b.prediction -> 'link'
                     AND a.prediction -> 'encoding' IS NOT DISTINCT FROM b.prediction -> 'encoding'
                     AND 'linear' = ALL (ARRAY[coalesce(a.prediction ->> 'kind', 'linear'), coalesce(b.prediction ->> 'kind', 'linear')])
                THEN (
        SELECT sqrt(sum(power(s.one * (a.prediction ->> 'target_scale')::double precision
                              - s.other * (b.prediction ->> 'target_scale')::double precision, 2)))
        FROM unnest(federated._json_numbers(a.prediction -> 'slopes'), federated._json_numbers(b.prediction -> 'slopes'))
             AS s (one, other)) END
$$;
COMMENT ON FUNCTION federated._distance(federated.version, federated.version) IS
    'L2 distance of two linear versions'' coefficients in raw input units; NULL where features or their encoding differ or numbers were not kept';

CREATE FUNCTION federated._version_metrics(subject federated.version) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET extra_float_digits = 1 AS $$
    SELECT jsonb_build_object('version', subject.version, 'round_number', subject.round_number,
        'global_loss', subject.global_loss, 'global_accuracy', subject.global_accuracy, 'epsilon', subject.epsilon,
        'global_loss_std_error', subject.global_loss_std_error,
        'global_accuracy_std_error', subject.global_accuracy_std_error, 'parent', federated._parent_name(subject.run_id))
$$;
COMMENT ON FUNCTION federated._version_metrics(federated.version) IS 'How well a version did, as JSON';

-- Reads the columns of a version that nobody but the coordinator may (its sealed parameters) as NULL.
CREATE FUNCTION federated._read_version(model text, label text) RETURNS federated.version
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT ROW(v.version_id, v.model_id, v.version, v.run_id, v.round_number, v.features, v.scaling, NULL, v.sha256,
               v.global_loss, v.global_accuracy, v.epsilon, v.is_current, v.created_at, v.prediction,
               v.global_loss_std_error, v.global_accuracy_std_error, v.base_loss, v.global_precision, v.global_recall,
               v.global_f1_score, v.global_rmse, v.report, NULL, v.retired_at, v.retired_by, v.withheld)::federated.version
    FROM federated.version AS v
    WHERE v.model_id = federated._model_id(model) AND v.version = federated._version_number(model, label)
$$;
COMMENT ON FUNCTION federated._read_version(text, text) IS 'A version without its sealed parameters, or error 42704';

-- A model made before names were checked may have an @ in its own.
CREATE FUNCTION federated._read_reference(reference text) RETURNS federated.version
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    at_sign    integer := strpos(reference, '@');
    model_name text := reference;
    label      text;
    subject    federated.version;
BEGIN
    IF at_sign > 0 AND NOT EXISTS (SELECT FROM federated.model AS m WHERE m.name = reference) THEN
        label := split_part(reference, '@', -1);
        model_name := left(reference, -1 - length(label));
    ELSE
        label := (SELECT v.version::text FROM federated.version AS v
                  WHERE v.model_id = federated._model_id(reference) AND v.is_current);
    END IF;
    IF label IS NULL THEN
        PERFORM federated._predict_untrained(model_name);
    END IF;
    subject := federated._read_version(model_name, label);
    IF subject.retired_at IS NOT NULL THEN
        PERFORM federated._refuse_withdrawn(model_name, subject.version, true);
    END IF;
    RETURN subject;
END
$$;
COMMENT ON FUNCTION federated._read_reference(text) IS
    'The version that model@tag or model@number names, or the current one of a model, without its sealed parameters; 42704 where there is none, 55000 where none is current or it was retired';

-- Who is held out belongs to a node, its dataset and the share; figures of other rows, or of another kind, are no difference.
CREATE FUNCTION federated._incomparable(a federated.version, b federated.version) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH one AS (
        SELECT v.place, v.global_loss IS NULL AS is_unknown, r.options,
               r.policy ->> 'privacy_budget' IS NOT NULL AS is_private,
               (SELECT array_agg(p.node_id ORDER BY p.node_id)
                FROM federated.participation AS p
                WHERE p.run_id = v.run_id AND p.round_number = v.round_number AND p.outcome = 'received'
                  -- The figures are those of before the report, which may be of another round's model.
                  AND p.exchange = (SELECT max(q.exchange) FROM federated.participation AS q
                                    WHERE q.run_id = v.run_id AND q.round_number = v.round_number
                                      AND q.step <> 'report')) AS nodes
        FROM (VALUES (1, (a).run_id, (a).round_number, (a).global_loss),
                     (2, (b).run_id, (b).round_number, (b).global_loss)) AS v (place, run_id, round_number, global_loss)
        JOIN federated.run AS r USING (run_id)
    )
    SELECT nullif(concat_ws('; ',
        CASE WHEN x.is_unknown OR y.is_unknown THEN 'a loss is not known' END,
        (SELECT string_agg(format('%s differs', o.name), '; ' ORDER BY o.place)
         FROM unnest(ARRAY['algorithm', 'target', 'dataset', 'validation_split']) WITH ORDINALITY AS o (name, place)
         WHERE x.options -> o.name IS DISTINCT FROM y.options -> o.name),
        CASE WHEN x.is_private <> y.is_private THEN 'only one was measured under a privacy_budget' END,
        CASE WHEN x.nodes IS DISTINCT FROM y.nodes THEN 'other nodes evaluated them' END), '')
    FROM one AS x CROSS JOIN one AS y WHERE x.place = 1 AND y.place = 2
$$;
COMMENT ON FUNCTION federated._incomparable(federated.version, federated.version) IS
    'Why the figures of two versions are not of the same held-out rows, or not of one kind; NULL where they are';

CREATE FUNCTION federated._joint_error(one double precision, other double precision) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    -- The larger first, so that no square overflows.
    SELECT CASE WHEN num_nulls(one, other) > 0 THEN NULL WHEN greatest(one, other) = 0 THEN 0
                ELSE greatest(one, other) * sqrt(1 + power(least(one, other) / greatest(one, other), 2)) END
$$;
COMMENT ON FUNCTION federated._joint_error(double precision, double precision) IS
    'Standard error of the difference of two figures that have nothing in common; NULL where one is not known';

CREATE FUNCTION @extschema@.compare_federated_models(model text, version_a text, version_b text) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET extra_float_digits = 1 AS $$
DECLARE
    a      federated.version;
    b      federated.version;
    reason text;
BEGIN
    IF num_nulls(version_a, version_b) > 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'the versions to compare must not be null';
    END IF;
    a := federated._read_version(model, version_a);
    b := federated._read_version(model, version_b);
    reason := federated._incomparable(a, b);
    RETURN jsonb_build_object(
        'version_a', federated._version_metrics(a), 'version_b', federated._version_metrics(b),
        'comparable', reason IS NULL, 'reason', reason,
        'difference', jsonb_build_object(
            'global_loss', b.global_loss - a.global_loss, 'global_accuracy', b.global_accuracy - a.global_accuracy,
            'epsilon', b.epsilon - a.epsilon, 'round_number', b.round_number - a.round_number,
            'global_loss_std_error', federated._joint_error(a.global_loss_std_error, b.global_loss_std_error),
            'global_accuracy_std_error',
            federated._joint_error(a.global_accuracy_std_error, b.global_accuracy_std_error)),
        'parameter_distance', federated._distance(a, b));
END
$$;
COMMENT ON FUNCTION @extschema@.compare_federated_models(text, text, text) IS
    'Two versions of a model, each named by tag or number: their metrics, b minus a with its standard error (at most: without a budget both are of the same rows, and the difference is known better), comparable and, where they are not, reason (other held-out rows or nodes, another algorithm, only one under a budget), and parameter_distance, the L2 distance of their coefficients in raw feature units (null where features differ or a version''s numbers were not kept or are sealed)';

SELECT pg_catalog.pg_extension_config_dump('federated.tag', '');
