-- What a START would do. Everything is read with the caller's rights, in a function that can write nothing.

CREATE FUNCTION federated._explain(command text) RETURNS jsonb
LANGUAGE plpython3u STABLE SET search_path = pg_catalog, pg_temp AS $$
import sys
if "@LIBDIR@" not in sys.path: sys.path.insert(0, "@LIBDIR@")
from heliosdb.extension import door
if not hasattr(door, "serves"):
    return ('{"failure": {"sqlstate": "55000", "message": "this session began before the extension was updated",'
            ' "hint": "Reconnect."}}')
return door.explain(plpy, command, "@VERSION@")
$$;
COMMENT ON FUNCTION federated._explain(text) IS
    'Explains one EXPLAIN START FEDERATED TRAINING; returns {"plan": lines} or the {"failure"} that federated.explain then raises';

CREATE FUNCTION federated.explain(command text, OUT "QUERY PLAN" text) RETURNS SETOF text
LANGUAGE plpgsql STABLE ROWS 40 SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    explained jsonb := federated._explain(command);
BEGIN
    PERFORM federated._raise(explained -> 'failure');
    RETURN QUERY SELECT l.line FROM jsonb_array_elements_text(explained -> 'plan') WITH ORDINALITY AS l (line, place) ORDER BY l.place;
END
$$;
COMMENT ON FUNCTION federated.explain(text) IS
    'What a START FEDERATED TRAINING would do, by the statement EXPLAIN [(FORMAT TEXT | JSON)] START ..., as the proxy calls it: nothing is run, charged or asked of a node';
