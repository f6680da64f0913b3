//! Against a database, which HELIOSDB_DSN names (an administrator), HELIOSDB_ANALYST_DSN (an analyst) and
//! HELIOSDB_PROXY_DSN (a proxy before a database with the model `risk`). The model `risk` is trained already.

use std::error::Error as _;

use heliosdb::{Error, FeatureValue, FederatedLearning, FederatedWorkspace, Model, NodeConfig, TrainingConfig};

async fn connected(variable: &str) -> FederatedLearning {
    let dsn = std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set"));
    FederatedLearning::connect(&dsn).await.expect("a connection")
}

fn refused<T>(found: heliosdb::Result<T>, sqlstate: &str, said: &str) -> Error {
    let error = match found {
        Ok(_) => panic!("{sqlstate} was expected"),
        Err(error) => error,
    };
    assert_eq!(error.sqlstate(), sqlstate, "{error}");
    assert!(error.to_string().contains(said), "{error}");
    error
}

#[tokio::test]
#[ignore = "needs a federation"]
async fn errors_are_the_languages_own() {
    let fl = connected("HELIOSDB_DSN").await;
    let (workspace, model, nobody) = (fl.workspace("consortium"), fl.model("risk"), fl.model("nobody"));
    let unknown = refused(model.predict([("height", 1.8)]).await, "42703", "height");
    assert_eq!(unknown.hint(), Some("Its features are age, pressure."));
    assert!(unknown.source().is_some());
    refused(model.train(TrainingConfig::new().rounds(0)).await, "22023", "rounds");
    refused(model.train(TrainingConfig::new().option("roundz", 3)).await, "22023", "roundz");
    refused(model.train(TrainingConfig::new().option("learning_rate", f64::NAN)).await, "22023", "finite");
    let twice = Model::builder("risk").algorithm("logistic_regression").features(["age"]).target("outcome");
    refused(twice.create(&workspace).await, "42710", "risk");
    refused(nobody.train(TrainingConfig::new()).await, "42704", "nobody");
    refused(nobody.training().await, "42704", "nobody");
    refused(nobody.status().await, "42704", "nobody");
    refused(nobody.history(None).await, "42704", "nobody");
    refused(model.history(Some(99)).await, "42704", "no run 99");
    refused(model.at(99).predict([("age", 1.0)]).await, "42704", "99");
    refused(fl.workspace("nobody").status().await, "42704", "nobody");
    refused(fl.workspace("nobody").budget().await, "42704", "nobody");
    refused(model.stop().await, "55000", "risk");
    refused(fl.execute("no statement").await, "42601", "no");
}

#[tokio::test]
#[ignore = "needs a federation"]
async fn rights_are_the_databases() {
    let fl = connected("HELIOSDB_ANALYST_DSN").await;
    let model = fl.model("risk");
    let probability = model.predict([("age", 55.0), ("pressure", 140.0)]).await.expect("an analyst's prediction");
    assert!(0.0 < probability && probability < 1.0);
    assert!(!model.history(None).await.expect("history").is_empty());
    refused(model.train(TrainingConfig::new()).await, "42501", "");
    refused(FederatedWorkspace::builder("another").create(&fl).await, "42501", "");
    let node = NodeConfig::new("x", "https://localhost:1").certificate("x.pem");
    refused(fl.workspace("consortium").register_node(node).await, "42501", "");
    refused(model.promote(1).await, "42501", "");
    refused(model.drop(false).await, "42501", "");
}

#[tokio::test]
#[ignore = "needs a federation"]
async fn many_rows_are_predicted_in_their_order() {
    let model = connected("HELIOSDB_DSN").await.model("risk");
    let rows = (0..10_001).map(|age| [("age", f64::from(age % 90)), ("pressure", 130.0)]);
    let predicted = model.predict_many(rows).await.expect("predictions");
    assert_eq!(predicted.len(), 10_001);
    for place in [0, 17, 9_999, 10_000] {
        let one = model.predict([("age", f64::from(place % 90)), ("pressure", 130.0)]).await.expect("one");
        assert_eq!(predicted[place as usize], one);
    }
    assert!(model.predict_many(Vec::<[(&str, f64); 1]>::new()).await.expect("none").is_empty());
    let missing = model.predict([("age", FeatureValue::Missing)]).await.expect("of one of whom nothing is known");
    let shares = model.predict_probabilities([[("age", None::<f64>)]]).await.expect("probabilities");
    assert_eq!(shares[0]["1"], missing);
    assert!((shares[0]["0"] + shares[0]["1"] - 1.0).abs() < 1e-12);
}

#[tokio::test]
#[ignore = "needs a federation"]
async fn odd_names_come_and_go() {
    let fl = connected("HELIOSDB_DSN").await;
    let second = FederatedWorkspace::builder("second \"w\"")
        .min_nodes(2)
        .privacy_budget(1.5)
        .delta(1e-6)
        .if_not_exists()
        .create(&fl)
        .await
        .expect("a workspace");
    assert_eq!(second.budget().await.expect("a budget").total_epsilon, Some(1.5));
    assert_eq!(second.status().await.expect("a status").status, "incomplete");
    let odd =
        Model::builder("odd 'name'\"").algorithm("logistic_regression").features(["it's", "a \"b\""]).target("\\");
    let odd = odd.create(&second).await.expect("a model");
    assert_eq!(odd.info().await.expect("it").options["features"], serde_json::json!(["it's", "a \"b\""]));
    assert!(odd.status().await.expect("no run").is_none());
    refused(odd.training().await, "55000", "has never been in training");
    odd.set("rounds", 7).await.expect("altered");
    assert_eq!(second.models().await.expect("models")[0].options["rounds"], 7);
    odd.drop(false).await.expect("dropped");
    second.drop(false).await.expect("dropped");
    let left = fl.workspaces().await.expect("workspaces");
    assert!(left.iter().all(|one| one.workspace_name == "consortium"));
}

#[tokio::test]
#[ignore = "needs a federation"]
async fn a_training_that_fails_is_an_error_with_its_run() {
    let fl = connected("HELIOSDB_DSN").await;
    let lost = Model::builder("lost").algorithm("logistic_regression").features(["age", "height"]).target("outcome");
    let lost = lost.create(&fl.workspace("consortium")).await.expect("a model");
    fl.take_notices();
    let training = lost.train(TrainingConfig::new().rounds(2)).await.expect("queued");
    assert!(fl.take_notices().iter().any(|one| one.message.contains("height") && one.sqlstate.len() == 5));
    let error = refused(training.finish().await, "55000", "height");
    assert_eq!(error.run().map(|run| run.status.as_str()), Some("failed"));
    lost.drop(false).await.expect("dropped");
}

#[tokio::test]
#[ignore = "needs a federation"]
async fn a_lost_connection_is_an_error() {
    let fl = connected("HELIOSDB_DSN").await;
    let other = connected("HELIOSDB_DSN").await;
    let dsn = std::env::var("HELIOSDB_DSN").expect("it");
    let (client, connection) =
        heliosdb::tokio_postgres::connect(&dsn, heliosdb::tokio_postgres::NoTls).await.expect("a connection");
    tokio::spawn(connection);
    let end = "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity \
               WHERE application_name = 'heliosdb-rust' AND usename = current_user";
    assert!(client.query(end, &[]).await.expect("ended").len() >= 2);
    for lost in [fl, other] {
        assert!(lost.workspaces().await.is_err());
        refused(lost.workspaces().await, "08006", "");
    }
}

#[tokio::test]
#[ignore = "needs a federation"]
async fn where_it_cannot_connect_it_says_so() {
    refused(FederatedLearning::connect("no connection string").await, "22023", "no connection string");
    refused(FederatedLearning::connect("host=127.0.0.1 port=1 user=x").await, "08001", "");
    let dsn = std::env::var("HELIOSDB_DSN").expect("it");
    refused(FederatedLearning::connect(&format!("{dsn} sslmode=require")).await, "08001", "TLS");
    let elsewhere = format!("{dsn} dbname=postgres");
    refused(FederatedLearning::connect(&elsewhere).await, "3F000", "CREATE EXTENSION");
}

#[tokio::test]
#[ignore = "needs a proxy"]
async fn the_proxy_makes_no_difference() {
    let fl = connected("HELIOSDB_PROXY_DSN").await;
    let predicted = fl.model("risk").predict([("age", 1.0), ("bmi", 1.0)]).await.expect("a prediction");
    assert_eq!(predicted, 2.75);
    let workspaces = fl.workspaces().await.expect("workspaces");
    assert!(workspaces.iter().any(|one| one.workspace_name == "clinics"));
    refused(fl.model("risk").predict([("height", 1.0)]).await, "42703", "height");
}
