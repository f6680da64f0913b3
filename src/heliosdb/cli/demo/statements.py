"""What the demo types: the quick start, with this machine's endpoints and certificates in it."""

from __future__ import annotations

PRIVATE_WORKSPACE = """\
CREATE FEDERATED WORKSPACE healthcare_consortium
WITH (
    privacy_budget = 0.5,           -- Differential privacy epsilon
    min_nodes = 3,                  -- Minimum nodes required
    max_nodes = 100,                -- Maximum nodes allowed
    compliance_mode = 'HIPAA',      -- HIPAA or GDPR
    encryption = 'AES-256-GCM'      -- Encryption algorithm
);"""

PLAIN_WORKSPACE = "CREATE FEDERATED WORKSPACE open_study WITH (min_nodes = 3);"

PRIVATE_MODEL = """\
CREATE FEDERATED MODEL disease_classifier
IN WORKSPACE healthcare_consortium
WITH (
    algorithm = 'logistic_regression',
    features = ['age', 'sex', 'blood_pressure', 'cholesterol', 'bmi'],
    target = 'disease_outcome',
    rounds = 50,                            -- Training rounds
    aggregation = 'fedavg'
);"""

START_PRIVATE = """\
START FEDERATED TRAINING disease_classifier
WITH (
    local_epochs = 5,               -- Epochs per round per node
    batch_size = 32,
    learning_rate = 0.001,
    convergence_threshold = 0.001
);"""

PLAIN_MODEL = """\
CREATE FEDERATED MODEL open_classifier
IN WORKSPACE open_study
WITH (
    algorithm = 'logistic_regression',
    features = ['age', 'sex', 'blood_pressure', 'cholesterol', 'bmi'],
    target = 'disease_outcome'
);"""

START_PLAIN = """\
START FEDERATED TRAINING open_classifier
WITH (optimizer = 'newton');              -- the estimate of all hospitals' rows together"""

COEFFICIENTS = """\
SELECT term, round(estimate::numeric, 4) AS estimate, round(std_error::numeric, 4) AS std_error,
       round(statistic::numeric, 2) AS z, round(p_value::numeric, 4) AS p_value
FROM federated_coefficients('open_classifier');"""

PREDICT_PATIENT = """\
SELECT federated_predict(
    '{model}',
    age => 55,
    sex => '2',
    blood_pressure => 140,
    cholesterol => 220,
    bmi => 28.5
) AS disease_probability;"""

PREDICT_TABLE = """\
SELECT count(*) AS patients,
       count(*) FILTER (WHERE p > 0.5) AS predicted_ill,
       round(avg(p)::numeric, 3) AS mean_probability
FROM (
    SELECT federated_predict('{model}', age => age, sex => sex, blood_pressure => blood_pressure,
                             cholesterol => cholesterol, bmi => bmi) AS p
    FROM held_out_patients
) AS predicted;"""

GRANT_MODEL = "GRANT FEDERATED SUBSCRIBE ON MODEL open_classifier TO NODE 'hospital_a';"

SUBSCRIBE = "CREATE FEDERATED SUBSCRIPTION classifier TO MODEL open_classifier IN WORKSPACE open_study;"

SUBSCRIPTIONS = """\
SELECT subscription_name, model_name, version, state, left(signed_by, 16) AS signed_by
FROM federated_subscriptions;"""

PREDICT_OWN = """\
SELECT patient_id, age, round(federated_predict('open_classifier', p)::numeric, 3) AS disease_probability
FROM patients AS p ORDER BY disease_probability DESC, patient_id LIMIT 3;"""

EVALUATE_OWN = """\
SELECT metric, round(value::numeric, 3) AS value, round(conf_low::numeric, 3) AS conf_low,
       round(conf_high::numeric, 3) AS conf_high
FROM federated_evaluate('open_classifier', 'SELECT * FROM patients')
WHERE metric IN ('rows', 'accuracy', 'auc', 'calibration_slope');"""

WHAT_LEFT = """\
SELECT w.name AS workspace, n.name AS hospital, count(*) AS vectors,
       sum(p.bytes_received) AS bytes,
       (SELECT round(max(l.epsilon_tight)::numeric, 4) FROM federated.ledger AS l
        WHERE l.workspace = w.name AND l.node_name = n.name) AS epsilon
FROM federated.participation AS p
JOIN federated.node AS n USING (node_id)
JOIN federated.workspace AS w USING (workspace_id)
WHERE p.outcome = 'received'
GROUP BY w.workspace_id, w.name, n.name
ORDER BY w.name, n.name;"""


def register_node(name: str, workspace: str, endpoint: str, certificate: str) -> str:
    """REGISTER FEDERATED NODE with what `heliosdb up` said of the node."""
    return (
        f"REGISTER FEDERATED NODE '{name}'\nIN WORKSPACE {workspace}\nWITH (\n"
        f"    endpoint = '{endpoint}',\n    certificate = '{certificate}',\n"
        f"    data_residency = 'US-EAST',\n    contact = 'admin@{name.replace('_', '-')}.example.com'\n);"
    )


def share_patients(table: str, workspace: str) -> str:
    """CREATE FEDERATED DATASET, as each hospital's own DBA types it."""
    return (
        f"CREATE FEDERATED DATASET {table}\n"
        f"FOR TABLE {table} (age, sex, blood_pressure, cholesterol, bmi, disease_outcome)\n"
        f"IN WORKSPACE {workspace} WITH (subject = 'patient_id');"
    )
