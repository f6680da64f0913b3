-- A row of any type as a model's features, at the speed of named arguments: a function over any type whose body is read anew
-- for the type that it is called with, and inlined. A feature that the row has not is found outside of it, where each feature
-- is of the type federated.absent: what is made of a value is chosen by its type, when the query is planned. The row itself is
-- never made: one that is NULL (an outer join's) is one of whom nothing is known, as with named arguments.

CREATE TYPE federated.absent AS ENUM ();
COMMENT ON TYPE federated.absent IS 'The type of a feature that a row has not: it has no value';

CREATE FUNCTION federated._is_given(value federated.absent) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN false;
CREATE FUNCTION federated._is_given(value anyelement) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT true';
COMMENT ON FUNCTION federated._is_given(federated.absent) IS 'A feature that the row has not';
COMMENT ON FUNCTION federated._is_given(anyelement) IS 'A feature that the row has, whatever its value';

CREATE FUNCTION federated._as_number(value federated.absent) RETURNS float8 LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN NULL::float8;
CREATE FUNCTION federated._as_number(value float8) RETURNS float8 LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN value;
CREATE FUNCTION federated._as_number(value boolean) RETURNS float8 LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN value::integer::float8;
CREATE FUNCTION federated._as_number(value anyelement) RETURNS float8 LANGUAGE sql STABLE PARALLEL SAFE
    AS 'SELECT federated._json_number(pg_catalog.to_jsonb($1))';
COMMENT ON FUNCTION federated._as_number(federated.absent) IS 'A number that the row has not';
COMMENT ON FUNCTION federated._as_number(float8) IS 'A number as it is';
COMMENT ON FUNCTION federated._as_number(boolean) IS 'True and false as 1 and 0';
COMMENT ON FUNCTION federated._as_number(anyelement) IS 'A number out of anything else, as of JSON';

CREATE FUNCTION federated._as_flag(value federated.absent) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN NULL::boolean;
CREATE FUNCTION federated._as_flag(value boolean) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN value;
CREATE FUNCTION federated._as_flag(value anyelement) RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE
    AS 'SELECT federated._as_boolean(federated._json_number(pg_catalog.to_jsonb($1)))';
COMMENT ON FUNCTION federated._as_flag(federated.absent) IS 'A boolean that the row has not';
COMMENT ON FUNCTION federated._as_flag(boolean) IS 'A boolean as it is';
COMMENT ON FUNCTION federated._as_flag(anyelement) IS 'A boolean out of anything else: true, false, 1 or 0';

CREATE FUNCTION federated._as_text(value federated.absent) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN NULL::text;
CREATE FUNCTION federated._as_text(value anyelement) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS 'SELECT $1::pg_catalog.text';
COMMENT ON FUNCTION federated._as_text(federated.absent) IS 'A text that the row has not';
COMMENT ON FUNCTION federated._as_text(anyelement) IS 'A level or a text as text';

CREATE FUNCTION federated._as_time(value federated.absent) RETURNS timestamp LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN NULL::timestamp;
CREATE FUNCTION federated._as_time(value date) RETURNS timestamp LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN value::timestamp;
CREATE FUNCTION federated._as_time(value timestamp) RETURNS timestamp LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN value;
CREATE FUNCTION federated._as_time(value timestamptz) RETURNS timestamp LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN timezone('UTC', value);
CREATE FUNCTION federated._as_time(value anyelement) RETURNS timestamp LANGUAGE sql STABLE PARALLEL SAFE
    AS 'SELECT federated._json_time(pg_catalog.to_jsonb($1))';
COMMENT ON FUNCTION federated._as_time(federated.absent) IS 'A time that the row has not';
COMMENT ON FUNCTION federated._as_time(date) IS 'The beginning of a day';
COMMENT ON FUNCTION federated._as_time(timestamp) IS 'A time without a zone as it is';
COMMENT ON FUNCTION federated._as_time(timestamptz) IS 'A time with a zone, in UTC';
COMMENT ON FUNCTION federated._as_time(anyelement) IS 'A time out of anything else, as of JSON';

CREATE FUNCTION federated._as_interval(value federated.absent) RETURNS interval LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN NULL::interval;
CREATE FUNCTION federated._as_interval(value interval) RETURNS interval LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN value;
CREATE FUNCTION federated._as_interval(value anyelement) RETURNS interval LANGUAGE sql STABLE PARALLEL SAFE
    AS 'SELECT federated._json_interval(pg_catalog.to_jsonb($1))';
COMMENT ON FUNCTION federated._as_interval(federated.absent) IS 'An interval that the row has not';
COMMENT ON FUNCTION federated._as_interval(interval) IS 'An interval as it is';
COMMENT ON FUNCTION federated._as_interval(anyelement) IS 'An interval out of anything else, as of JSON';

CREATE FUNCTION federated._as_array(value federated.absent) RETURNS float8[] LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN NULL::float8[];
CREATE FUNCTION federated._as_array(value float8[]) RETURNS float8[] LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN value;
CREATE FUNCTION federated._as_array(value real[]) RETURNS float8[] LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN value::float8[];
CREATE FUNCTION federated._as_array(value integer[]) RETURNS float8[] LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN value::float8[];
CREATE FUNCTION federated._as_array(value bigint[]) RETURNS float8[] LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN value::float8[];
CREATE FUNCTION federated._as_array(value anyelement) RETURNS float8[] LANGUAGE sql STABLE PARALLEL SAFE
    AS 'SELECT federated._json_array(pg_catalog.to_jsonb($1))';
COMMENT ON FUNCTION federated._as_array(federated.absent) IS 'An array that the row has not';
COMMENT ON FUNCTION federated._as_array(float8[]) IS 'An array of numbers as it is';
COMMENT ON FUNCTION federated._as_array(real[]) IS 'An array of single numbers';
COMMENT ON FUNCTION federated._as_array(integer[]) IS 'An array of whole numbers';
COMMENT ON FUNCTION federated._as_array(bigint[]) IS 'An array of large whole numbers';
COMMENT ON FUNCTION federated._as_array(anyelement) IS 'An array out of anything else, as of JSON';

CREATE FUNCTION federated._as_image(value federated.absent) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN NULL::bytea;
CREATE FUNCTION federated._as_image(value bytea) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN value;
CREATE FUNCTION federated._as_image(value anyelement) RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE
    AS 'SELECT federated._json_image(pg_catalog.to_jsonb($1))';
COMMENT ON FUNCTION federated._as_image(federated.absent) IS 'An image that the row has not';
COMMENT ON FUNCTION federated._as_image(bytea) IS 'The bytes of an image as they are';
COMMENT ON FUNCTION federated._as_image(anyelement) IS 'The bytes of an image out of anything else, as of JSON';

-- Of each feature, an expression of its parameter's type over a column of that name. source: what stands before the name.
CREATE FUNCTION federated._given_by_name(features text[], booleans boolean[], prediction jsonb, present text[], source text)
RETURNS text[]
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT array_agg(CASE
        WHEN c.feature = ANY (present) THEN format('federated.%I(%s%I)', CASE c.kind
            WHEN 'number' THEN '_as_number' WHEN 'boolean' THEN '_as_flag' WHEN 'category' THEN '_as_text' WHEN 'text' THEN '_as_text'
            WHEN 'time' THEN '_as_time' WHEN 'interval' THEN '_as_interval' WHEN 'image' THEN '_as_image' ELSE '_as_array' END, source, c.feature)
        WHEN cardinality(features) > 99 THEN federated._absent_value(c.type) END ORDER BY c.place)
    FROM federated._columns(features, booleans, prediction) AS c
$$;
COMMENT ON FUNCTION federated._given_by_name(text[], boolean[], jsonb, text[], text) IS
    'The features of a version out of columns of any types, each as an expression of its parameter''s type; NULL for what is not present';

CREATE FUNCTION federated._write_typed_function(function_name text, features text[], booleans boolean[], prediction jsonb)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    target record;
BEGIN
    FOR target IN
        SELECT 'federated_model' AS called, 'federated_row' AS made, 'double precision' AS type UNION ALL
        SELECT 'federated_proba', 'federated_proba', 'double precision[]' WHERE federated._has_many_classes(prediction)
    LOOP
        EXECUTE format(
            'CREATE OR REPLACE FUNCTION %I.%I(anyelement) RETURNS SETOF %s LANGUAGE sql STABLE PARALLEL SAFE AS %L',
            target.made, function_name, target.type, (
            SELECT format(E'SELECT s.prediction FROM (SELECT %s) AS d,\n'
                '    LATERAL (SELECT CASE WHEN %s\n'
                '        THEN %s ELSE %s END AS prediction\n'
                '    FROM (SELECT ($1).*) AS r) AS s',
                string_agg(format('NULL::federated.absent AS %I', f.feature), ', ' ORDER BY f.place),
                string_agg(format('federated._is_given(%I)', f.feature), ' OR ' ORDER BY f.place),
                federated._describe_call(target.called, function_name, features, booleans, prediction,
                    federated._given_by_name(features, booleans, prediction, features, '')),
                format(CASE target.type WHEN 'double precision' THEN 'federated._predict_json(%L, ''{}'', true)'
                            ELSE 'ARRAY[federated._predict_json(%L, ''{}'', true)]' END, function_name))
            FROM unnest(features) WITH ORDINALITY AS f (feature, place)));
    END LOOP;
END
$$;
COMMENT ON FUNCTION federated._write_typed_function(text, text[], boolean[], jsonb) IS
    'Makes the form (anyelement) of a function, for a row of any type: its columns that are named as features, whatever their types';
