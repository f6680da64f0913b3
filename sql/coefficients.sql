-- What a statistician asks of a linear model. Everything was computed when the version was made; nothing is here but its form.

CREATE FUNCTION federated._coefficients(model text) RETURNS federated.version
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    subject federated.version := federated._read_reference(model);
BEGIN
    IF subject.prediction ? 'sealed' THEN
        PERFORM federated._refuse_sealed(m.name, subject.version, 'its coefficients are not shown')
        FROM federated.model AS m WHERE m.model_id = subject.model_id;
    ELSIF subject.prediction ->> 'kind' = 'votes' THEN
        RAISE EXCEPTION USING ERRCODE = 'feature_not_supported',
            MESSAGE = format('federated model "%s" has no coefficients', model),
            DETAIL = 'A version by vote has none of its own: each group''s model has.',
            HINT = 'Train the model anew without voting_groups.';
    ELSIF subject.prediction -> 'coefficients' IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'feature_not_supported',
            MESSAGE = format('federated model "%s" has no coefficients', model),
            DETAIL = 'They are of logistic, linear, Poisson and Cox regression, in versions made since they are kept.',
            HINT = 'Train the model anew with such an algorithm, and optimizer = ''newton'' for standard errors.';
    END IF;
    RETURN subject;
END
$$;
COMMENT ON FUNCTION federated._coefficients(text) IS
    'The version of a model (or of model@tag) whose coefficients are shown: 55000 where it is sealed, 0A000 where it has none';

CREATE FUNCTION @extschema@.federated_coefficients(
    model text, OUT term text, OUT estimate double precision, OUT std_error double precision, OUT statistic double precision,
    OUT p_value double precision, OUT conf_low double precision, OUT conf_high double precision
) RETURNS SETOF record
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    subject federated.version := federated._coefficients(model);
    kept    jsonb := subject.prediction -> 'coefficients';
    terms   text[] := CASE WHEN (kept ->> 'intercept')::boolean THEN ARRAY['(intercept)'] ELSE '{}'::text[] END
        || CASE WHEN jsonb_typeof(kept -> 'inputs') = 'array'
                THEN ARRAY(SELECT i.name FROM jsonb_array_elements_text(kept -> 'inputs') WITH ORDINALITY AS i (name, place)
                           ORDER BY i.place)
                ELSE subject.features END;
    classes jsonb := subject.prediction -> 'classes';
BEGIN
    IF kept ->> 'reason' IS NOT NULL THEN
        RAISE NOTICE 'the coefficients of federated model "%" have no standard errors', model USING DETAIL = kept ->> 'reason';
    END IF;
    RETURN QUERY
        SELECT CASE WHEN jsonb_array_length(kept -> 'scores') > 1
                    THEN format('%s: %s', coalesce(classes ->> s.number::integer, s.number::text), t.name) ELSE t.name END,
               (s.score -> 'estimate' ->> (t.place - 1)::integer)::double precision,
               (s.score -> 'std_error' ->> (t.place - 1)::integer)::double precision,
               (s.score -> 'statistic' ->> (t.place - 1)::integer)::double precision,
               (s.score -> 'p_value' ->> (t.place - 1)::integer)::double precision,
               (s.score -> 'conf_low' ->> (t.place - 1)::integer)::double precision,
               (s.score -> 'conf_high' ->> (t.place - 1)::integer)::double precision
        FROM jsonb_array_elements(kept -> 'scores') WITH ORDINALITY AS s (score, number)
        CROSS JOIN unnest(terms) WITH ORDINALITY AS t (name, place)
        ORDER BY s.number, t.place;
END
$$;
COMMENT ON FUNCTION @extschema@.federated_coefficients(text) IS
    'The coefficients of a model''s current version, or of model@tag, in the columns'' own units: of a logistic model log odds, of several classes against the first, each term behind its class; of a Poisson model logarithms of the mean, of a Cox model of the hazard. std_error is that of the rows of all nodes that were trained on, as if they had been pooled, by the inverse of the observed information; statistic is estimate / std_error, normal, for a linear model of Student''s t with as many degrees of freedom as there are more rows than coefficients; p_value is two-sided, conf_low and conf_high bound the interval of 95 %. A level''s coefficient is against the level of the category that has none, the first by its bytes. Rows are taken as independent, those of one data subject too, and a missing value as if the mean in its place had been seen: where many are, errors are too small. Under weights they are those of weighted least squares, of other models as if a row had been seen so many times; for sampling weights they are no standard errors. estimate is NULL for a column that is the same in every row that was trained on. What needs a standard error is NULL where there is none, and a NOTICE says why: it needs optimizer = ''newton'', no penalty, no privacy_budget, whose noise the estimates hold, and an estimate that was reached';
