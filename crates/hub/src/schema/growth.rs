//! Whether checking a payload can cost exponentially much, for how deep it nests.
//!
//! A schema that refers to itself is checked again for what is inside of a value. Where it leads
//! to itself by one way only, that is once for each level. By two ways at the same value, such as
//! two branches of an `anyOf`, it is twice as often at each level: a small message that nests
//! sixty deep would never be done. Such schemas are refused.

use std::collections::HashMap;

use serde_json::{Map, Value};

/// Looks for a place from which a schema leads to itself by more than one way at the same value.
/// `schema` must have been compiled, so that its keywords have values of the right types.
///
/// Errors: what is wrong, with the place. Cost: linear in the size of the schema.
pub(super) fn check(schema: &Value) -> Result<(), String> {
    let graph = Graph::new(schema)?;
    let circle = graph.circles();
    for (at, node) in graph.nodes.iter().enumerate() {
        let leads_back = |way: &Vec<usize>| way.iter().any(|target| circle[*target] == circle[at]);
        let count = |ways: &[Vec<usize>]| ways.iter().filter(|way| leads_back(way)).count();
        // What is not evaluated is found by evaluating the same value again.
        let again = if node.has_rest { 2 } else { 1 };
        if count(&node.same) * again + count(&node.fields).max(count(&node.items)) > 1 {
            return Err(format!(
                "refers to itself by more than one way at {}: a check could take forever",
                if node.place.is_empty() { "its root" } else { &node.place },
            ));
        }
    }
    Ok(())
}

/// The schemas within a schema, and which applies which.
struct Graph {
    nodes: Vec<Node>,
}

/// A schema, and the ways to those it applies. One way may have several ends, of which no two
/// apply to the same value.
#[derive(Default)]
struct Node {
    place: String,
    /// To the value itself.
    same: Vec<Vec<usize>>,
    /// To its fields, if it is an object.
    fields: Vec<Vec<usize>>,
    /// To its items, if it is an array.
    items: Vec<Vec<usize>>,
    /// Whether there is a keyword for what no other has evaluated.
    has_rest: bool,
}

impl Graph {
    fn new(root: &Value) -> Result<Self, String> {
        let mut anchors = HashMap::new();
        find_anchors(root, String::new(), &mut anchors);
        let mut builder = Builder {
            root,
            anchors,
            known: HashMap::from([(String::new(), 0)]),
            nodes: vec![Node::default()],
        };
        let mut at = 0;
        while at < builder.nodes.len() {
            builder.read(at)?;
            at += 1;
        }
        Ok(Self { nodes: builder.nodes })
    }

    /// For each schema, the circle it is in: those that lead to it and to which it leads.
    fn circles(&self) -> Vec<usize> {
        let mut back = vec![Vec::new(); self.nodes.len()];
        let forth: Vec<Vec<usize>> = self.nodes.iter().map(Node::targets).collect();
        for (at, targets) in forth.iter().enumerate() {
            targets.iter().for_each(|target| back[*target].push(at));
        }
        // Kosaraju: in the reverse of the order in which they are left, backwards.
        let mut left = Vec::new();
        let mut seen = vec![false; self.nodes.len()];
        for at in 0..self.nodes.len() {
            walk(at, &forth, &mut seen, |at| left.push(at));
        }
        let mut circle = vec![0; self.nodes.len()];
        let mut seen = vec![false; self.nodes.len()];
        for first in left.into_iter().rev() {
            walk(first, &back, &mut seen, |at| circle[at] = first);
        }
        circle
    }
}

impl Node {
    fn targets(&self) -> Vec<usize> {
        [&self.same, &self.fields, &self.items].into_iter().flatten().flatten().copied().collect()
    }
}

/// Visits what can be reached and has not been seen, each after all it leads to.
fn walk(first: usize, edges: &[Vec<usize>], seen: &mut [bool], mut leave: impl FnMut(usize)) {
    if std::mem::replace(&mut seen[first], true) {
        return;
    }
    let mut stack = vec![(first, 0)];
    while let Some((at, next)) = stack.last_mut() {
        match edges[*at].get(*next) {
            Some(&target) => {
                *next += 1;
                if !std::mem::replace(&mut seen[target], true) {
                    stack.push((target, 0));
                }
            }
            None => {
                leave(*at);
                stack.pop();
            }
        }
    }
}

struct Builder<'a> {
    root: &'a Value,
    /// Where the names are that `#name` can mean.
    anchors: HashMap<&'a str, Vec<String>>,
    known: HashMap<String, usize>,
    nodes: Vec<Node>,
}

impl Builder<'_> {
    fn read(&mut self, at: usize) -> Result<(), String> {
        let place = self.nodes[at].place.clone();
        let Some(Value::Object(schema)) = self.root.pointer(&place) else { return Ok(()) };
        if !place.is_empty() && ["$id", "id"].iter().any(|id| is_text(schema, id)) {
            return Err(format!("has an `$id` at {place}, which only its root may have"));
        }
        let mut node = Node { place, ..Node::default() };
        let here = |keyword: &str| format!("{}/{keyword}", node.place);

        for keyword in ["$ref", "$dynamicRef", "$recursiveRef"] {
            if let Some(Value::String(reference)) = schema.get(keyword) {
                node.same.push(self.refer(reference)?);
            }
        }
        for keyword in ["allOf", "anyOf", "oneOf", "dependentSchemas", "dependencies"] {
            let each = self.inside(schema, keyword, &node.place);
            node.same.extend(each.into_iter().map(|target| vec![target]));
        }
        for keyword in ["not", "if"] {
            if schema.contains_key(keyword) {
                node.same.push(vec![self.node(here(keyword))]);
            }
        }
        let known = |keywords: &[&'static str]| {
            let mut keywords = keywords.to_vec();
            keywords.retain(|keyword| schema.contains_key(*keyword));
            keywords
        };
        let either = known(&["then", "else"]);
        node.same.push(either.into_iter().map(|keyword| self.node(here(keyword))).collect());

        let mut named = self.inside(schema, "properties", &node.place);
        for keyword in known(&["additionalProperties", "unevaluatedProperties"]) {
            named.push(self.node(here(keyword)));
        }
        node.fields.push(named);
        let matching = self.inside(schema, "patternProperties", &node.place);
        node.fields.extend(matching.into_iter().map(|target| vec![target]));

        let mut placed = self.inside(schema, "prefixItems", &node.place);
        match schema.get("items") {
            Some(Value::Array(_)) => placed.extend(self.inside(schema, "items", &node.place)),
            Some(_) => placed.push(self.node(here("items"))),
            None => {}
        }
        for keyword in known(&["additionalItems", "unevaluatedItems"]) {
            placed.push(self.node(here(keyword)));
        }
        node.items.push(placed);
        if schema.contains_key("contains") {
            node.items.push(vec![self.node(here("contains"))]);
        }
        node.has_rest = !known(&["unevaluatedProperties", "unevaluatedItems"]).is_empty();
        self.nodes[at] = node;
        Ok(())
    }

    /// The schemas in a list, or in an object by name.
    fn inside(&mut self, schema: &Map<String, Value>, keyword: &str, place: &str) -> Vec<usize> {
        let place = |name: &str| super::join(&format!("{place}/{keyword}"), name);
        match schema.get(keyword) {
            Some(Value::Array(list)) => {
                (0..list.len()).map(|at| self.node(place(&at.to_string()))).collect()
            }
            Some(Value::Object(fields)) => {
                fields.keys().map(|name| self.node(place(name))).collect()
            }
            _ => Vec::new(),
        }
    }

    /// What a reference can mean.
    fn refer(&mut self, reference: &str) -> Result<Vec<usize>, String> {
        let places = match reference.strip_prefix('#') {
            Some(place) if place.is_empty() || place.starts_with('/') && !place.contains('%') => {
                vec![place.to_owned()]
            }
            Some(name) if self.anchors.contains_key(name) => self.anchors[name].clone(),
            _ => {
                let reference = super::shorten(reference);
                return Err(format!("has a reference that is not `#/…` or `#name`: {reference}"));
            }
        };
        Ok(places.into_iter().map(|place| self.node(place)).collect())
    }

    fn node(&mut self, place: String) -> usize {
        *self.known.entry(place).or_insert_with_key(|place| {
            self.nodes.push(Node { place: place.clone(), ..Node::default() });
            self.nodes.len() - 1
        })
    }
}

fn is_text(schema: &Map<String, Value>, keyword: &str) -> bool {
    schema.get(keyword).is_some_and(Value::is_string)
}

/// Collects every name that is given anywhere, also where it means nothing.
fn find_anchors<'a>(tree: &'a Value, place: String, anchors: &mut HashMap<&'a str, Vec<String>>) {
    let children: Vec<(String, &Value)> = match tree {
        Value::Object(fields) => {
            for keyword in ["$anchor", "$dynamicAnchor"] {
                if let Some(Value::String(name)) = fields.get(keyword) {
                    anchors.entry(name).or_default().push(place.clone());
                }
            }
            fields.iter().map(|(name, value)| (super::join(&place, name), value)).collect()
        }
        Value::Array(items) => {
            let place = |at: usize| super::join(&place, &at.to_string());
            items.iter().enumerate().map(|(at, value)| (place(at), value)).collect()
        }
        _ => return,
    };
    for (place, value) in children {
        find_anchors(value, place, anchors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grows(schema: &str) -> bool {
        let schema = serde_json::from_str(schema).expect("a schema");
        match check(&schema) {
            Ok(()) => false,
            Err(error) if error.contains("more than one way") => true,
            Err(error) => panic!("{schema}: {error}"),
        }
    }

    #[test]
    fn one_way_back_is_fine() {
        for schema in [
            r##"true"##,
            r##"{"$ref":"#"}"##,
            r##"{"properties":{"left":{"$ref":"#"},"right":{"$ref":"#"}},"additionalProperties":{"$ref":"#"}}"##,
            r##"{"items":{"$ref":"#"},"additionalProperties":{"$ref":"#"}}"##,
            r##"{"oneOf":[{"type":"string"},{"type":"array","items":{"$ref":"#"}}]}"##,
            r##"{"if":{"type":"object"},"then":{"properties":{"a":{"$ref":"#"}}},"else":{"items":{"$ref":"#"}}}"##,
            r##"{"$ref":"#/$defs/a","$defs":{"a":{"anyOf":[{"$ref":"#/$defs/b"},{"$ref":"#/$defs/b"}]},"b":{"type":"null"}}}"##,
            r##"{"prefixItems":[{"$ref":"#x"},{"$ref":"#x"}],"items":false,"$defs":{"n":{"$anchor":"x","items":{"$ref":"#"}}}}"##,
            r##"{"properties":{"a":{"$ref":"#"}},"unevaluatedProperties":false}"##,
            // These are payload, not keywords.
            r##"{"properties":{"$id":{"type":"string"},"anyOf":{"$ref":"#"},"allOf":{"$ref":"#"}}}"##,
            r##"{"const":{"anyOf":[{"$ref":"#"},{"$ref":"#"}]}}"##,
        ] {
            assert!(!grows(schema), "{schema}");
        }
    }

    #[test]
    fn two_ways_back_at_one_value_are_not() {
        for schema in [
            r##"{"anyOf":[{"properties":{"a":{"$ref":"#"}}},{"properties":{"a":{"$ref":"#"}}}]}"##,
            r##"{"oneOf":[{"items":{"$ref":"#"}},{"items":{"$ref":"#"}}]}"##,
            r##"{"allOf":[{"items":{"$ref":"#"}}],"items":{"$ref":"#"}}"##,
            r##"{"if":{"items":{"$ref":"#"}},"then":{"items":{"$ref":"#"}}}"##,
            r##"{"items":{"$ref":"#"},"contains":{"$ref":"#"}}"##,
            r##"{"properties":{"a":{"$ref":"#"}},"patternProperties":{"a":{"$ref":"#"}}}"##,
            r##"{"allOf":[{"properties":{"a":{"$ref":"#"}}}],"unevaluatedProperties":false}"##,
            r##"{"$ref":"#/$defs/a","$defs":{"a":{"not":{"items":{"$ref":"#/$defs/b"}}},"b":{"anyOf":[{"$ref":"#/$defs/a"},{"not":{"$ref":"#/$defs/a"}}]}}}"##,
            r##"{"$defs":{"n":{"$anchor":"x","dependentSchemas":{"a":{"items":{"$ref":"#x"}},"b":{"items":{"$ref":"#x"}}}}},"properties":{"y":{"$ref":"#x"}}}"##,
            r##"{"$dynamicAnchor":"x","anyOf":[{"items":{"$dynamicRef":"#x"}},{"items":{"$dynamicRef":"#x"}}]}"##,
            r##"{"$defs":{"a/b":{"anyOf":[{"items":{"$ref":"#/$defs/a~1b"}},{"items":{"$ref":"#/$defs/a~1b"}}]}},"items":{"$ref":"#/$defs/a~1b"}}"##,
        ] {
            assert!(grows(schema), "{schema}");
        }
    }

    #[test]
    fn what_cannot_be_followed_is_refused() {
        for (schema, told) in [
            (r##"{"$ref":"https://json-schema.org/draft/2020-12/schema"}"##, "not `#/…`"),
            (r##"{"items":{"$ref":"#/%24defs/a"}}"##, "not `#/…`"),
            (r##"{"items":{"$ref":"#nowhere"}}"##, "not `#/…`"),
            (r##"{"items":{"$id":"x","items":{"$ref":"#"}}}"##, "`$id` at /items"),
        ] {
            let error = check(&serde_json::from_str(schema).expect("a schema")).expect_err(schema);
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn a_large_schema_takes_no_stack_and_no_time() {
        let defs: Vec<_> = (0..5_000)
            .map(|n| format!(r##""d{n}":{{"items":{{"$ref":"#/$defs/d{}"}}}}"##, (n + 1) % 5_000))
            .collect();
        let schema = format!(r##"{{"$ref":"#/$defs/d0","$defs":{{{}}}}}"##, defs.join(","));
        assert!(!grows(&schema));
        // Nothing leads back to the root; everything leads back to the first of the circle.
        let second = r##"{"contains":{"$ref":"#/$defs/d7"},"##;
        assert!(!grows(&schema.replacen('{', second, 1)));
        assert!(grows(&schema.replacen(r#"{"items":"#, &format!(r#"{second}"items":"#), 1)));
    }
}
