-- Whose rows a role may change, whichever way it changes them. Grants say who may change a table at all.

CREATE FUNCTION federated._has_role(role name) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM pg_roles AS r WHERE r.rolname = _has_role.role AND pg_has_role(r.oid, 'USAGE'))
        OR EXISTS (SELECT FROM pg_roles AS r WHERE r.rolname = current_user AND r.rolsuper)
$$;
COMMENT ON FUNCTION federated._has_role(name) IS
    'Whether the caller has a role''s privileges; a superuser has, also of a role that was dropped';

CREATE FUNCTION federated._require_workspace_owner(workspace_id bigint) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    subject record;
BEGIN
    SELECT w.name, w.owner INTO subject FROM federated.workspace AS w
    WHERE w.workspace_id = _require_workspace_owner.workspace_id;
    IF FOUND AND NOT federated._has_role(subject.owner) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = format('must be owner of federated workspace "%s"', subject.name),
            DETAIL = format('Its owner is %s.', quote_ident(subject.owner));
    END IF;
END
$$;
COMMENT ON FUNCTION federated._require_workspace_owner(bigint) IS
    'Raises 42501 unless the caller is a member of the workspace''s owner role';

CREATE FUNCTION federated._owns_model(model_id bigint) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(bool_and(federated._has_role(m.owner) OR federated._has_role(w.owner)), true)
    FROM federated.model AS m JOIN federated.workspace AS w USING (workspace_id)
    WHERE m.model_id = _owns_model.model_id
$$;
COMMENT ON FUNCTION federated._owns_model(bigint) IS
    'Whether the caller is a member of the owner role of a model or of its workspace; true where there is none such';

CREATE FUNCTION federated._require_model_owner(model_id bigint) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    subject record;
BEGIN
    IF federated._owns_model(model_id) THEN
        RETURN;
    END IF;
    SELECT m.name, m.owner, w.owner AS workspace_owner INTO subject
    FROM federated.model AS m JOIN federated.workspace AS w USING (workspace_id)
    WHERE m.model_id = _require_model_owner.model_id;
    RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
        MESSAGE = format('must be owner of federated model "%s"', subject.name),
        DETAIL = format('Its owner is %s, the owner of its workspace %s.',
                        quote_ident(subject.owner), quote_ident(subject.workspace_owner));
END
$$;
COMMENT ON FUNCTION federated._require_model_owner(bigint) IS
    'Raises 42501 unless the caller is a member of the owner role of the model or of its workspace';

-- check_owner sorts before the other BEFORE triggers: nothing else about the change is looked at for one who may not.
CREATE FUNCTION federated._check_workspace_owner() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        PERFORM federated._require_workspace_owner(OLD.workspace_id);
    END IF;
    IF TG_OP = 'DELETE' THEN
        RETURN OLD;
    END IF;
    PERFORM federated._require_workspace_owner(NEW.workspace_id);
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION federated._check_workspace_owner() IS 'Keeps a workspace and its nodes for members of its owner role';

CREATE FUNCTION federated._check_model_owner() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        -- What an erasure queues nobody asks for who owns the model.
        IF current_user <> 'federated_owner' THEN
            PERFORM federated._require_model_owner(NEW.model_id);
        END IF;
        RETURN NEW;
    END IF;
    PERFORM federated._require_model_owner(OLD.model_id);
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END
$$;
COMMENT ON FUNCTION federated._check_model_owner() IS
    'Keeps a model, its training and its tags for members of its owner role or its workspace''s';

-- The coordinator writes other columns of node and run: it is not asked who owns them.
CREATE TRIGGER check_owner BEFORE DELETE OR UPDATE OF name, owner, options ON federated.workspace
    FOR EACH ROW EXECUTE FUNCTION federated._check_workspace_owner();
CREATE TRIGGER check_owner BEFORE INSERT OR DELETE OR UPDATE OF name, workspace_id, options ON federated.node
    FOR EACH ROW EXECUTE FUNCTION federated._check_workspace_owner();
CREATE TRIGGER check_owner BEFORE DELETE OR UPDATE OF name, workspace_id, owner, options ON federated.model
    FOR EACH ROW EXECUTE FUNCTION federated._check_model_owner();
CREATE TRIGGER check_owner BEFORE INSERT OR DELETE OR UPDATE OF stop_requested ON federated.run
    FOR EACH ROW EXECUTE FUNCTION federated._check_model_owner();

CREATE FUNCTION federated._check_new_owner() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    new_owner oid := (SELECT r.oid FROM pg_roles AS r WHERE r.rolname = NEW.owner);
BEGIN
    IF new_owner IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('role "%s" does not exist', NEW.owner);
    -- From version 16 on a membership may come without the right to become the role.
    ELSIF NOT pg_has_role(new_owner, CASE WHEN current_setting('server_version_num')::integer >= 160000 THEN 'SET' ELSE 'MEMBER' END) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = format('must be able to SET ROLE "%s"', NEW.owner);
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION federated._check_new_owner() IS
    'Lets ownership go only to a role that exists and that the caller may become';

CREATE TRIGGER refuse_new_owner BEFORE UPDATE OF owner ON federated.workspace
    FOR EACH ROW WHEN (NEW.owner IS DISTINCT FROM OLD.owner) EXECUTE FUNCTION federated._check_new_owner();
CREATE TRIGGER refuse_new_owner BEFORE UPDATE OF owner ON federated.model
    FOR EACH ROW WHEN (NEW.owner IS DISTINCT FROM OLD.owner) EXECUTE FUNCTION federated._check_new_owner();

-- A workspace's name is what its ledger, its runs' policy and its nodes' datasets and agreements know it by.
CREATE FUNCTION federated._refuse_workspace_rename() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    obstacle text;
    remedy   text;
BEGIN
    IF octet_length(NEW.name) > 63 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_name', MESSAGE = 'workspace name is too long',
            DETAIL = format('It has %s bytes; at most 63 are allowed.', octet_length(NEW.name));
    ELSIF EXISTS (SELECT FROM federated.run AS r JOIN federated.model AS m USING (model_id)
                  WHERE m.workspace_id = OLD.workspace_id AND r.status IN ('queued', 'running')) THEN
        RAISE EXCEPTION USING ERRCODE = 'object_in_use',
            MESSAGE = format('federated workspace "%s" has a model in training', OLD.name),
            HINT = 'STOP FEDERATED TRAINING first.';
    ELSIF EXISTS (SELECT FROM federated.node AS n WHERE n.workspace_id = OLD.workspace_id) THEN
        obstacle := 'Nodes are registered: they share their datasets with this name.';
        remedy := 'Unregister its nodes first; their DBAs then share their datasets with the new name.';
    ELSIF EXISTS (SELECT FROM federated.ledger AS l WHERE l.workspace = OLD.name) THEN
        obstacle := 'Its ledger has entries, and a budget is kept by name, here and at each node.';
        remedy := 'Make a workspace of the new name: it has a budget of its own, and this one keeps what it has spent.';
    END IF;
    IF obstacle IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('federated workspace "%s" cannot be renamed', OLD.name),
            DETAIL = obstacle, HINT = remedy;
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION federated._refuse_workspace_rename() IS
    'Lets a workspace be renamed only while nobody knows it by its name: no node, no charge, no training';

CREATE TRIGGER refuse_rename BEFORE UPDATE OF name ON federated.workspace
    FOR EACH ROW WHEN (NEW.name IS DISTINCT FROM OLD.name) EXECUTE FUNCTION federated._refuse_workspace_rename();

-- A dataset and its view are one DBA's: nobody drops another's, or shares under a name whose view is another's.
CREATE FUNCTION federated._check_dataset_owner() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    dataset federated.dataset := CASE TG_OP WHEN 'INSERT' THEN NEW ELSE OLD END;
    owner   name := CASE TG_OP WHEN 'INSERT' THEN (
        SELECT c.relowner::regrole::name FROM pg_class AS c
        WHERE c.relnamespace = 'federated_dataset'::regnamespace AND c.relname = dataset.name) ELSE OLD.owner END;
BEGIN
    IF owner IS NOT NULL AND NOT federated._has_role(owner) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = format('must be owner of federated dataset "%s"', dataset.name),
            DETAIL = format('Its owner is %s.', owner);
    END IF;
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END
$$;
COMMENT ON FUNCTION federated._check_dataset_owner() IS 'Keeps a dataset for members of its owner role';

-- The node writes other columns: it is not asked who owns the dataset.
CREATE TRIGGER check_owner BEFORE INSERT OR DELETE OR UPDATE OF options ON federated.dataset
    FOR EACH ROW EXECUTE FUNCTION federated._check_dataset_owner();

-- A run copies its workspace's name and policy. Whoever queues it may not lock the workspace's row, hence DEFINER.
CREATE FUNCTION federated._hold_workspace(model_id bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- Inside DEFINER current_user is the owner: the caller is the role that was set, or who logged in.
    caller name := CASE WHEN current_setting('role') = 'none' THEN session_user ELSE current_setting('role')::name END;
BEGIN
    -- Who may not start the model's training holds nothing up; START says so next.
    IF NOT EXISTS (
        SELECT FROM federated.model AS m JOIN federated.workspace AS w USING (workspace_id)
        JOIN pg_roles AS r ON r.rolname IN (m.owner, w.owner)
        WHERE m.model_id = _hold_workspace.model_id AND pg_has_role(caller, r.oid, 'USAGE')) THEN
        RETURN;
    END IF;
    PERFORM FROM federated.workspace AS w
    WHERE w.workspace_id = (SELECT m.workspace_id FROM federated.model AS m WHERE m.model_id = _hold_workspace.model_id)
    FOR KEY SHARE;
END
$$;
COMMENT ON FUNCTION federated._hold_workspace(bigint) IS
    'Keeps a model''s workspace from being renamed or dropped until the transaction ends';

CREATE FUNCTION federated._rename(kind text, object_id bigint, new_name text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF kind = 'workspace' THEN
        UPDATE federated.workspace SET name = new_name WHERE workspace_id = object_id;
    ELSE
        UPDATE federated.model SET name = new_name WHERE model_id = object_id;
    END IF;
EXCEPTION WHEN unique_violation THEN
    RAISE EXCEPTION USING ERRCODE = 'duplicate_object',
        MESSAGE = format('federated %s "%s" already exists', kind, new_name);
END
$$;
COMMENT ON FUNCTION federated._rename(text, bigint, text) IS 'Renames a workspace or a model; a name that is taken is error 42710';
