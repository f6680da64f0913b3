-- Who calls by HTTP: tokens that stand for a role, and requests that may be sent again.
--
-- What always holds: a token is shown once and kept as its hash; it stands for a role that its maker is a member of, never for a
-- superuser, for a year at most. Whoever is refused is told nothing but that.
-- Neither table is dumped: what opens one database is to open no copy of it.

CREATE TABLE federated.api_token (
    token_id     uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    role_id      oid NOT NULL,
    role_name    name NOT NULL,
    token_sha256 bytea NOT NULL UNIQUE CHECK (octet_length(token_sha256) = 32),
    description  text NOT NULL DEFAULT '' CHECK (octet_length(description) <= 1000),
    created_by   name NOT NULL DEFAULT current_user,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at   timestamptz NOT NULL,
    revoked_at   timestamptz,
    revoked_by   name,
    CHECK (num_nulls(revoked_at, revoked_by) IN (0, 2))
);
COMMENT ON TABLE federated.api_token IS 'Bearer tokens of heliosdb api: each stands for a role until it expires or is revoked. Not dumped';
COMMENT ON COLUMN federated.api_token.role_id IS 'The role itself: one that is made anew under the same name has none of its tokens';
COMMENT ON COLUMN federated.api_token.role_name IS 'Its name when the token was made';
COMMENT ON COLUMN federated.api_token.token_sha256 IS 'SHA-256 of the token''s text: the token itself is kept nowhere';

CREATE TABLE federated.api_request (
    role_id         oid NOT NULL,
    idempotency_key text NOT NULL CHECK (octet_length(idempotency_key) BETWEEN 1 AND 255),
    request_sha256  bytea NOT NULL CHECK (octet_length(request_sha256) = 32),
    run_id          uuid,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (role_id, idempotency_key)
);
CREATE INDEX api_token_by_role ON federated.api_token (role_id);
CREATE INDEX api_request_by_age ON federated.api_request (created_at);
COMMENT ON TABLE federated.api_request IS
    'Requests to heliosdb api that came with an Idempotency-Key, for a day: what is sent again is answered again and not done again. Not dumped';
COMMENT ON COLUMN federated.api_request.request_sha256 IS 'Of what was asked: the same key with another request is refused';
COMMENT ON COLUMN federated.api_request.run_id IS 'What it started; NULL only inside the transaction that starts it';

SELECT pg_catalog.pg_extension_config_dump('federated.api_token', 'WHERE false');
SELECT pg_catalog.pg_extension_config_dump('federated.api_request', 'WHERE false');

-- In PL/pgSQL, like all that each call by HTTP asks: a session keeps its plans, where a function in SQL would be planned anew.
CREATE FUNCTION federated._may_serve(role_id oid) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN EXISTS (
        SELECT FROM pg_roles AS r
        WHERE r.oid = _may_serve.role_id AND NOT (r.rolsuper OR r.rolbypassrls OR r.rolreplication)
          -- What daemons and the product itself act as is no person's.
          AND NOT EXISTS (
              SELECT FROM pg_roles AS p
              WHERE p.rolname IN ('federated_api', 'federated_daemon', 'federated_reader', 'federated_owner', 'federated_probe',
                                  'federated_aggregator')
                AND pg_has_role(r.oid, p.oid, 'MEMBER')));
END
$$;
COMMENT ON FUNCTION federated._may_serve(oid) IS
    'Whether calls by HTTP may run as a role: it exists, has no power beyond its grants (SUPERUSER, BYPASSRLS, REPLICATION) and is no daemon''s';

CREATE FUNCTION federated._has_room_for_token(role_id oid) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- Two transactions would not see each other's tokens.
    PERFORM pg_advisory_xact_lock(hashtextextended('heliosdb_federated.api_token:' || _has_room_for_token.role_id, 0));
    RETURN (SELECT count(*) < 100 FROM federated.api_token AS t
            WHERE t.role_id = _has_room_for_token.role_id AND t.revoked_at IS NULL AND t.expires_at > clock_timestamp());
END
$$;
COMMENT ON FUNCTION federated._has_room_for_token(oid) IS
    'Whether a role has fewer valid tokens than it may have; until the transaction ends nobody else makes one for it';

CREATE FUNCTION federated._check_token() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    subject name := (SELECT r.rolname FROM pg_roles AS r WHERE r.oid = NEW.role_id);
BEGIN
    IF subject IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = 'the role of a token must exist';
    -- From version 16 on a membership may come without the right to become the role.
    ELSIF NOT pg_has_role(NEW.role_id, CASE WHEN current_setting('server_version_num')::integer >= 160000 THEN 'SET' ELSE 'MEMBER' END) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = format('must be able to SET ROLE "%s"', subject);
    ELSIF NOT federated._may_serve(NEW.role_id) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('role "%s" can have no token', subject),
            DETAIL = 'A token stands for no superuser, for no role with BYPASSRLS or REPLICATION, and for no role of a daemon.';
    ELSIF NEW.expires_at <= clock_timestamp() OR NEW.expires_at > clock_timestamp() + interval '1 year' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'a token must be valid for longer than nothing and for a year at most';
    ELSIF NOT federated._has_room_for_token(NEW.role_id) THEN
        RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded', MESSAGE = format('role "%s" has too many tokens', subject),
            DETAIL = 'A role may have 100 that are valid.',
            HINT = 'Revoke some: SELECT federated_revoke_token(token_id) FROM federated_tokens WHERE status = ''valid'' AND ...';
    END IF;
    NEW.role_name := subject;
    NEW.created_by := current_user;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION federated._check_token() IS 'Keeps tokens to roles that their makers may become, to a year, and to a number for each role';

CREATE FUNCTION federated._check_token_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT (OLD.created_by = current_user OR coalesce(pg_has_role(OLD.role_id, 'USAGE'), false) OR federated._has_role('federated_admin')) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'permission denied to revoke a token',
            HINT = 'Its maker, members of its role and of federated_admin may.';
    ELSIF OLD.revoked_at IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = 'the token is revoked already';
    END IF;
    NEW := OLD;
    NEW.revoked_at := clock_timestamp();
    NEW.revoked_by := current_user;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION federated._check_token_change() IS 'Lets a token be revoked, once, by those whose it is, and nothing else of it change';

CREATE TRIGGER check_token BEFORE INSERT ON federated.api_token
    FOR EACH ROW EXECUTE FUNCTION federated._check_token();
CREATE TRIGGER check_token_change BEFORE UPDATE ON federated.api_token
    FOR EACH ROW EXECUTE FUNCTION federated._check_token_change();
CREATE TRIGGER audit AFTER INSERT OR DELETE OR UPDATE ON federated.api_token
    FOR EACH ROW EXECUTE FUNCTION federated._audit();

CREATE FUNCTION @extschema@.federated_create_token(
    role name, valid interval DEFAULT '90 days', description text DEFAULT ''
) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    subject oid := (SELECT r.oid FROM pg_roles AS r WHERE r.rolname = federated_create_token.role);
    -- 244 bits of the server's strong random source.
    body    text := 'hfl_' || encode(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()), 'hex');
    token   text := body || left(encode(sha256(convert_to(body, 'UTF8')), 'hex'), 8);
BEGIN
    IF role IS NULL OR valid IS NULL OR description IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'role, valid and description of a token must not be null';
    ELSIF subject IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('role "%s" does not exist', role);
    ELSIF valid > interval '1 year' OR valid <= interval '0' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'a token must be valid for longer than nothing and for a year at most';
    END IF;
    INSERT INTO federated.api_token (role_id, token_sha256, description, expires_at)
    VALUES (subject, sha256(convert_to(token, 'UTF8')), description, clock_timestamp() + valid);
    RETURN token;
END
$$;
COMMENT ON FUNCTION @extschema@.federated_create_token(name, interval, text) IS
    'Makes a bearer token with which calls to heliosdb api run as a role, which the caller must be a member of and which must be no superuser, and returns it: it is shown this once, and kept as its hash. It is valid for a year at most, and a role has 100 valid ones at most. The token is hfl_, 64 hexadecimal digits of random and 8 of a checksum (the first of SHA-256 of what stands before them)';

-- Updated through itself by federated_revoke_token: so a caller reaches the tokens that it may see, and no others.
CREATE VIEW @extschema@.federated_tokens WITH (security_barrier) AS
SELECT t.token_id, coalesce((SELECT r.rolname FROM pg_catalog.pg_roles AS r WHERE r.oid = t.role_id), t.role_name) AS role,
       t.description, t.created_by, t.created_at, t.expires_at, t.revoked_at, t.revoked_by,
       CASE WHEN t.revoked_at IS NOT NULL THEN 'revoked' WHEN t.expires_at <= pg_catalog.clock_timestamp() THEN 'expired'
            WHEN NOT federated._may_serve(t.role_id) THEN 'refused' ELSE 'valid' END AS status
FROM federated.api_token AS t
WHERE t.created_by = current_user OR coalesce(pg_catalog.pg_has_role(t.role_id, 'USAGE'), false)
   OR federated._has_role('federated_auditor') OR federated._has_role('federated_admin');
COMMENT ON VIEW @extschema@.federated_tokens IS
    'Bearer tokens of heliosdb api: those that the caller has made or whose role it has; all of them for members of federated_auditor and federated_admin';
COMMENT ON COLUMN @extschema@.federated_tokens.token_id IS 'What federated_revoke_token takes: the token itself is kept nowhere';
COMMENT ON COLUMN @extschema@.federated_tokens.role IS 'Whom a call with it runs as';
COMMENT ON COLUMN @extschema@.federated_tokens.description IS 'What its maker said of it';
COMMENT ON COLUMN @extschema@.federated_tokens.created_by IS 'The role that made it';
COMMENT ON COLUMN @extschema@.federated_tokens.created_at IS 'When it was made';
COMMENT ON COLUMN @extschema@.federated_tokens.expires_at IS 'From when on it is refused';
COMMENT ON COLUMN @extschema@.federated_tokens.revoked_at IS 'When it was revoked; NULL where it was not';
COMMENT ON COLUMN @extschema@.federated_tokens.revoked_by IS 'The role that revoked it';
COMMENT ON COLUMN @extschema@.federated_tokens.status IS
    'valid, expired, revoked, or refused: its role is gone, or has become one that can have no token';

CREATE FUNCTION @extschema@.federated_revoke_token(token_id uuid) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE @extschema@.federated_tokens AS t SET revoked_at = clock_timestamp() WHERE t.token_id = federated_revoke_token.token_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = 'there is no such token',
            HINT = 'SELECT token_id, role, description, status FROM federated_tokens shows yours.';
    END IF;
END
$$;
COMMENT ON FUNCTION @extschema@.federated_revoke_token(uuid) IS
    'Revokes a bearer token at once and for good: its maker may, a member of its role and of federated_admin. federated_tokens shows its token_id';

CREATE FUNCTION federated._authenticate(digest bytea, OUT role name) RETURNS name
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    subject oid := (SELECT t.role_id FROM federated.api_token AS t
                    WHERE t.token_sha256 = digest AND t.revoked_at IS NULL AND t.expires_at > clock_timestamp());
BEGIN
    IF subject IS NOT NULL AND federated._may_serve(subject) THEN
        role := (SELECT r.rolname FROM pg_roles AS r WHERE r.oid = subject);
    END IF;
END
$$;
COMMENT ON FUNCTION federated._authenticate(bytea) IS
    'The role that a token stands for, by SHA-256 of it; NULL whatever may be wrong with it';

CREATE FUNCTION federated._servable(role name) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN coalesce((SELECT federated._may_serve(r.oid) FROM pg_roles AS r WHERE r.rolname = _servable.role), false);
END
$$;
COMMENT ON FUNCTION federated._servable(name) IS 'Whether calls may run as the role of that name, which a certificate or an identity provider has vouched for';
