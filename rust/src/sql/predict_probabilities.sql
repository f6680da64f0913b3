SELECT federated_predict_proba($1::text, r.features) AS prediction
FROM jsonb_array_elements($2::jsonb) WITH ORDINALITY AS r (features, place) ORDER BY r.place
