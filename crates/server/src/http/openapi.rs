//! The description of the API for machines: OpenAPI 3.1, written by hand, tested against the table of routes.

/// The document.
pub(super) const DOCUMENT: &str = include_str!("openapi.json");

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::routes::ROUTES;
    use super::*;

    fn document() -> Value {
        serde_json::from_str(DOCUMENT).unwrap()
    }

    /// What a `$ref` leads to, or the value itself.
    fn resolved<'d>(document: &'d Value, value: &'d Value) -> &'d Value {
        match value["$ref"].as_str() {
            Some(place) => document.pointer(place.strip_prefix('#').unwrap()).expect(place),
            None => value,
        }
    }

    fn operations(document: &Value) -> Vec<(String, String, &Value)> {
        let paths = document["paths"].as_object().unwrap();
        let each = |(path, item): (&String, &'_ Value)| (path.clone(), item.clone());
        let mut found = Vec::new();
        for (path, _) in paths.iter().map(each) {
            for (method, operation) in document["paths"][&path].as_object().unwrap() {
                if method != "parameters" {
                    found.push((method.to_uppercase(), path.clone(), operation));
                }
            }
        }
        found
    }

    #[test]
    fn it_has_every_route_and_no_other() {
        let document = document();
        let mut described: Vec<_> =
            operations(&document).into_iter().map(|(method, path, _)| (method, path)).collect();
        let mut served: Vec<_> =
            ROUTES.iter().map(|route| (route.method.to_string(), route.path.to_owned())).collect();
        described.sort();
        served.sort();
        assert_eq!(described, served);
        assert_eq!(document["servers"][0]["url"], super::super::routes::PREFIX);
    }

    #[test]
    fn operations_are_complete() {
        let document = document();
        let mut names = std::collections::HashSet::new();
        for (method, path, operation) in operations(&document) {
            let place = format!("{method} {path}");
            assert!(names.insert(operation["operationId"].as_str().unwrap()), "{place}");
            assert!(operation["summary"].is_string(), "{place}");
            let open = operation["security"] == json!([]);
            let answers = operation["responses"].as_object().unwrap();
            assert!(answers.contains_key("200"), "{place}");
            assert_eq!(answers.contains_key("401"), !open, "{place}");
            let has_body = operation.get("requestBody").is_some();
            for status in ["408", "413", "415"] {
                assert_eq!(answers.contains_key(status), has_body, "{place} {status}");
            }
            let of_path = document["paths"][&path]["parameters"].as_array();
            let all = of_path.into_iter().chain(operation["parameters"].as_array()).flatten();
            let named: Vec<&Value> = all.map(|value| resolved(&document, value)).collect();
            for name in path.split('{').skip(1).map(|rest| rest.split('}').next().unwrap()) {
                let known = |value: &&Value| value["name"] == name && value["in"] == "path";
                assert!(named.iter().any(known), "{place} {name}");
            }
        }
    }

    #[test]
    fn every_example_is_of_its_schema() {
        fn check(document: &Value, place: &str, content: &Value, seen: &mut usize) {
            let content = &content["application/json"];
            let mut schema = content["schema"].clone();
            schema["components"] = document["components"].clone();
            let validator = jsonschema::options().offline().build(&schema).expect(place);
            if let Some(example) = content.get("example") {
                *seen += 1;
                let faults: Vec<String> =
                    validator.iter_errors(example).map(|error| error.to_string()).collect();
                assert!(faults.is_empty(), "{place}: {faults:?}");
            }
        }
        let document = document();
        let mut seen = 0;
        for (method, path, operation) in operations(&document) {
            for (status, answer) in operation["responses"].as_object().unwrap() {
                let place = format!("{method} {path} {status}");
                check(&document, &place, &resolved(&document, answer)["content"], &mut seen);
            }
            if let Some(body) = operation.get("requestBody") {
                let place = format!("{method} {path}");
                check(&document, &place, &resolved(&document, body)["content"], &mut seen);
            }
        }
        assert!(seen > 30, "{seen}");
    }
}
