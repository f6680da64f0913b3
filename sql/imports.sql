-- Models that came as files (exchange.sql): where predictions look them up.

CREATE TABLE federated.imported_model (
    import_id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name              text NOT NULL UNIQUE CHECK (name <> '' AND octet_length(name) <= 63 AND strpos(name, '@') = 0 AND name !~ '[[:cntrl:]]'),
    owner             name NOT NULL DEFAULT current_user,
    version           integer NOT NULL CHECK (version > 0),
    features          text[] NOT NULL,
    contract          jsonb NOT NULL CHECK (jsonb_typeof(contract) = 'object'),
    prediction        jsonb NOT NULL CHECK (jsonb_typeof(prediction) = 'object'),
    prediction_arrays bytea,
    origin            jsonb NOT NULL CHECK (jsonb_typeof(origin) = 'object' AND octet_length(origin::text) <= 8192),
    card              jsonb CHECK (jsonb_typeof(card) = 'object' AND octet_length(card::text) <= 4194304),
    file_sha256       bytea CHECK (octet_length(file_sha256) = 32),
    signature         text NOT NULL DEFAULT 'unchecked' CHECK (signature IN ('unchecked', 'none', 'delivery', 'verified')),
    signed_by         text CHECK (signed_by ~ '^[0-9a-f]{64}$'),
    imported_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((signature IN ('delivery', 'verified')) = (signed_by IS NOT NULL))
);
COMMENT ON TABLE federated.imported_model IS 'Versions that were imported from files, each a model of its own name here';
COMMENT ON COLUMN federated.imported_model.import_id IS 'By what its functions know its numbers: this database''s own';
COMMENT ON COLUMN federated.imported_model.version IS 'The number that it had where it was exported';
COMMENT ON COLUMN federated.imported_model.contract IS 'As in federated.delivered_version';
COMMENT ON COLUMN federated.imported_model.prediction IS 'As in federated.version';
COMMENT ON COLUMN federated.imported_model.prediction_arrays IS 'As in federated.version';
COMMENT ON COLUMN federated.imported_model.origin IS 'What the file says of where it is from: model, workspace, version_key, how it was held there, exported_at';
COMMENT ON COLUMN federated.imported_model.card IS 'The model card that came with it; NULL where none did';
COMMENT ON COLUMN federated.imported_model.file_sha256 IS 'SHA-256 of the whole file, as the importer says; NULL where it does not';
COMMENT ON COLUMN federated.imported_model.signature IS
    'What the importer found: verified, the whole file was signed by a certificate that they brought; delivery, by that one its numbers, as it delivered them: nothing else of the file was kept, and the version may not be current any more; none, the file had none or none was looked at; unchecked where they do not say';
COMMENT ON COLUMN federated.imported_model.signed_by IS 'SHA-256 of that certificate, hexadecimal; NULL unless signature is verified or delivery';

SELECT pg_catalog.pg_extension_config_dump('federated.imported_model', '');
