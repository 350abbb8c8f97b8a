//! The OpenAPI document, held against the running server.

#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

mod support;

use serde_json::Value;
use support::api::{KEY, server};

/// Whether a value is of the schema of an answer in the document.
fn check(document: &Value, path: &str, method: &str, status: &str, value: &Value) {
    let mut answer = &document["paths"][path][method]["responses"][status];
    assert!(answer.is_object(), "{method} {path} {status} is not described: {value}");
    if let Some(place) = answer["$ref"].as_str() {
        answer = document.pointer(&place[1..]).unwrap();
    }
    let mut schema = answer["content"]["application/json"]["schema"].clone();
    schema["components"] = document["components"].clone();
    let validator = jsonschema::options().offline().build(&schema).unwrap();
    let faults: Vec<String> = validator.iter_errors(value).map(|error| error.to_string()).collect();
    assert!(faults.is_empty(), "{method} {path} {status}: {faults:?} in {value}");
}

#[test]
fn every_operation_answers_as_described() {
    let server = server("");
    let shown = server.get("/api/v1/openapi.json");
    assert_eq!((shown.status, shown.header("content-type")), (200, "application/json"));
    let document = shown.json();
    assert_eq!(document["openapi"], "3.1.0");
    let _client = server.plain("/ws/lobby");
    let bearer = format!("Bearer {KEY}");
    let mut operations = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        let real = path
            .replace("{room}", "lobby")
            .replace("{user}", "u_7f3kq2")
            .replace("{session}", "s_0k3f9x2m1q8ab4c5")
            .replace("{node}", "self")
            .replace("{token}", "9f2b6c0e");
        let real = format!("/api/v1{real}");
        for (method, operation) in item.as_object().unwrap() {
            if method == "parameters" {
                continue;
            }
            operations += 1;
            let mut body = &operation["requestBody"];
            if let Some(place) = body["$ref"].as_str() {
                body = document.pointer(&place[1..]).unwrap();
            }
            let example = &body["content"]["application/json"]["example"];
            let text = if example.is_null() { String::new() } else { example.to_string() };
            let upper = method.to_uppercase();
            let key = [("authorization", &*bearer), ("content-type", "application/json")];
            let answer = server.send(&upper, &real, &key, text.as_bytes());
            assert_eq!(answer.status, 200, "{upper} {path}: {answer:?}");
            check(&document, path, method, "200", &answer.json());

            if operation["security"].is_null() {
                let answer = server.send(&upper, &real, &key[1..], text.as_bytes());
                check(&document, path, method, &answer.status.to_string(), &answer.json());
                assert_eq!(answer.status, 401, "{upper} {path}");
            }
            if !example.is_null() {
                let answer = server.send(&upper, &real, &key, b"[");
                check(&document, path, method, &answer.status.to_string(), &answer.json());
                assert_eq!(answer.status, 400, "{upper} {path}");
            }
            let wrong = server.send("PATCH", &real, &key, b"");
            assert_eq!(wrong.status, 405, "{path}");
        }
    }
    assert_eq!(operations, 30);
    let messages = "/rooms/{room}/messages";
    let refused = server.post("/rooms/a%20b/messages", r#"{"type":"x"}"#);
    check(&document, messages, "post", &refused.status.to_string(), &refused.json());
    let history = server.read("/rooms/lobby/history");
    assert_eq!(history.json()["messages"].as_array().unwrap().len(), 2, "those of the examples");
    check(&document, "/rooms/{room}/history", "get", "200", &history.json());
    let stale = server.read("/rooms/lobby/history?epoch=x");
    check(&document, "/rooms/{room}/history", "get", &stale.status.to_string(), &stale.json());
}
