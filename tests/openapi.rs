//! What the node says of its own routes: the document it serves, and the table in the README.

mod common;

use common::node::binary;
use common::{Node, kv};

#[test]
fn the_document_is_served_and_printed_and_is_yaml() {
    let node = Node::start(|_| {});
    let served = node.stranger().get("/openapi.yaml").expect(200);
    assert_eq!(served.field("content-type"), Some("application/yaml"));
    assert_eq!(served.text(), lucid::api::openapi::document());
    let printed = std::process::Command::new(binary()).arg("openapi").output().expect("it runs");
    assert!(printed.status.success());
    assert_eq!(String::from_utf8(printed.stdout).unwrap(), served.text());
    let document: serde_json::Value = serde_saphyr::from_str(&served.text()).expect("YAML");
    assert_eq!(document["openapi"], "3.1.0");
    let get = &document["paths"]["/api/kv/{key}"]["get"];
    assert_eq!(get["operationId"], "getKey");
    assert_eq!(get["security"][1]["apiKey"][0], "kv:read");
    assert_eq!(document["paths"]["/livez"]["get"]["security"], serde_json::json!([]));
}

#[test]
fn every_documented_operation_is_there_and_asks_for_what_is_documented() {
    let node = Node::start(|_| {});
    let text = lucid::api::openapi::document();
    let document: serde_json::Value = serde_saphyr::from_str(text).expect("YAML");
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            if method == "parameters" {
                continue;
            }
            let path = path.replace("{key}", &kv("k")[8..]).replace("{id}", "aaaaaaaaaaaa");
            let status = node.stranger().call(&method.to_uppercase(), &path, &[], b"").status;
            let open = operation["security"].as_array().unwrap().is_empty();
            assert_eq!(status, if open { 200 } else { 401 }, "{method} {path}");
        }
    }
}

#[test]
fn the_readme_has_the_table_of_endpoints_credentials_and_grants() {
    let readme = include_str!("../README.md");
    let table = lucid::api::openapi::grants_table();
    assert!(readme.contains(&table), "README.md lacks this table:\n{table}");
}
