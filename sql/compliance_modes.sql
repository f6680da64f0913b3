-- What each compliance mode asks for: one table, in the language's package, from which statements, nodes, documents and the
-- compliance check have it.

CREATE FUNCTION federated._describe_modes() RETURNS jsonb
LANGUAGE plpython3u STABLE SET search_path = pg_catalog, pg_temp AS $$
import sys
if "@LIBDIR@" not in sys.path: sys.path.insert(0, "@LIBDIR@")
from heliosdb.extension import door
if not hasattr(door, "serves"):
    plpy.error("this session began before the extension was updated", sqlstate="55000", hint="Reconnect.")
return door.describe_modes(plpy, "@VERSION@")
$$;
COMMENT ON FUNCTION federated._describe_modes() IS 'The rules of compliance modes, one object a rule and regulation';

CREATE FUNCTION federated._mode_rules()
RETURNS TABLE (regulation text, rule text, requirement text, held_at text, reference text, reason text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT r.regulation, r.rule, r.requirement, r.held_at, r.reference, r.reason
    FROM jsonb_to_recordset(federated._describe_modes())
        AS r (regulation text, rule text, requirement text, held_at text, reference text, reason text)
$$;
COMMENT ON FUNCTION federated._mode_rules() IS 'The rules of compliance modes, in the order in which they are checked';

CREATE FUNCTION @extschema@.federated_compliance_modes(
    OUT regulation text, OUT rule text, OUT requirement text, OUT held_at text, OUT reference text, OUT reason text
) RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT r.regulation, r.rule, r.requirement, r.held_at, r.reference, r.reason FROM federated._mode_rules() AS r
$$;
COMMENT ON FUNCTION @extschema@.federated_compliance_modes() IS
    'What compliance_mode HIPAA and GDPR ask for, one row a rule and regulation (BOTH asks for the rules of both): the option or subject, what is held, where, where it stands and why. It is what this version refuses; what a regulation asks beyond it federated_compliance_check names';

-- Under a compliance mode a node's own DBA has to allow plain answers for the dataset; before it a site's setting is enough.
CREATE FUNCTION federated._check_mode(workspace_id bigint, regulation text, OUT status text, OUT details text, OUT evidence text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN NOT d.declared OR d.broken IS NOT NULL OR d.unasked > 0 THEN 'FAIL' WHEN d.plain > 0 THEN 'MANUAL' ELSE 'PASS' END,
           CASE WHEN NOT d.declared THEN format('Nothing is refused for the sake of %s: set compliance_mode.', upper(regulation))
                WHEN d.broken IS NOT NULL THEN format('The workspace''s options are not what its mode asks for, past all statements: %s.', d.broken)
                WHEN d.unasked > 0 THEN 'Before the workspace was declared runs trained on answers without noise, which the nodes allowed by their sites'' general setting or for their datasets.'
                WHEN d.plain > 0 THEN 'Runs trained on answers without noise. Look at each node whether its own DBA allowed plain answers, and why.'
                ELSE 'What this regulation asks for is held where it has to be: federated_compliance_modes() says what, where and why.' END,
           format('compliance_mode %s, runs without a privacy budget: %s, before it was declared: %s', d.mode, d.plain, d.unasked)
               || CASE WHEN d.declared THEN format('; held: %s', (
                      SELECT string_agg(r.rule, ', ') FROM federated._mode_rules() AS r WHERE r.regulation = upper(_check_mode.regulation))) ELSE '' END
    FROM (
        SELECT m.mode, m.broken, m.mode IN (upper(regulation), 'BOTH') AS declared, count(r.run_id) AS plain,
               count(r.run_id) FILTER (WHERE r.mode NOT IN (upper(regulation), 'BOTH')) AS unasked
        FROM (
            SELECT w.name, upper(coalesce(w.options ->> 'compliance_mode', 'none')) AS mode,
                   federated._check_options('workspace', w.options) ->> 'message' AS broken
            FROM federated.workspace AS w WHERE w.workspace_id = _check_mode.workspace_id
        ) AS m
        LEFT JOIN LATERAL federated._plain_runs(m.name) AS r ON true
        GROUP BY m.mode, m.broken
    ) AS d
$$;
COMMENT ON FUNCTION federated._check_mode(bigint, text) IS
    'Whether the workspace declares that it is under a regulation, keeps to its rules, and trained on nothing that the nodes had to allow';
