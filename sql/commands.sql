-- The door into the package. It knows the caller: all of this runs with the invoker's rights.
CREATE FUNCTION federated._execute(command text, schemas name[]) RETURNS jsonb
LANGUAGE plpython3u VOLATILE SET search_path = pg_catalog, pg_temp AS $$
import sys
if "@LIBDIR@" not in sys.path: sys.path.insert(0, "@LIBDIR@")
from heliosdb.extension import door
if not hasattr(door, "serves"):
    return ('{"sqlstate": "55000", "message": "this session began before the extension was updated",'
            ' "hint": "Reconnect."}')
return door.execute(plpy, command, schemas, "@VERSION@")
$$;
COMMENT ON FUNCTION federated._execute(text, name[]) IS
    'Executes one FEDERATED statement; returns NULL, or the error that federated.execute then raises';

CREATE FUNCTION federated._raise(failure jsonb) RETURNS void
LANGUAGE plpgsql STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    message  text := failure ->> 'message';
    code     text := failure ->> 'sqlstate';
    place    text := coalesce('position=' || (failure ->> 'position'), '');
    detail   text := failure ->> 'detail';
    hint     text := failure ->> 'hint';
BEGIN
    -- RAISE takes no NULL, and an empty DETAIL would be shown: hence a branch for each combination.
    IF detail IS NOT NULL AND hint IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = code, MESSAGE = message, DETAIL = detail, HINT = hint,
            COLUMN = place, DATATYPE = 'federated_sql';
    ELSIF detail IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = code, MESSAGE = message, DETAIL = detail,
            COLUMN = place, DATATYPE = 'federated_sql';
    ELSIF hint IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = code, MESSAGE = message, HINT = hint,
            COLUMN = place, DATATYPE = 'federated_sql';
    END IF;
    RAISE EXCEPTION USING ERRCODE = code, MESSAGE = message, COLUMN = place, DATATYPE = 'federated_sql';
END
$$;
COMMENT ON FUNCTION federated._raise(jsonb) IS 'Raises the error that a statement returned, with its SQLSTATE, DETAIL and HINT';

-- Carries no SET clause: a dataset's table is looked up in the caller's search_path. Every name in it is qualified.
CREATE PROCEDURE federated.execute(command text)
LANGUAGE plpgsql AS $$
DECLARE
    failure pg_catalog.jsonb;
BEGIN
    failure := federated._execute(command, pg_catalog.current_schemas(true));
    PERFORM federated._count_refusal(failure);
    PERFORM federated._raise(failure);
END
$$;
COMMENT ON PROCEDURE federated.execute(text) IS 'Executes one FEDERATED statement, as the proxy does with what a user types';
