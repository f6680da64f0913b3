-- Rows are objects of JSON, bound as one parameter. Answered in their order.
SELECT federated_predict($1::text, r.features) AS prediction
FROM jsonb_array_elements($2::jsonb) WITH ORDINALITY AS r (features, place) ORDER BY r.place
