//! What the API serves: one table, from which requests are dispatched and against which the OpenAPI
//! document is tested.

use http::Method;
use percent_encoding::percent_decode_str;

use super::answer::Problem;

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    PublishToRoom,
    PublishBatch,
    ListRooms,
    ShowRoom,
    ShowHistory,
    ShowPresence,
    ShowCounts,
    PublishToUser,
    DisconnectUser,
    Document,
}

/// An operation and where it is. `{…}` stands for one segment, percent-encoded.
pub(super) struct Route {
    pub(super) path: &'static str,
    pub(super) operation: Operation,
    /// The method, and what else `Allow` names.
    allow: &'static [Method],
}

/// All of them, below [`PREFIX`].
pub(super) static ROUTES: [Route; 10] = {
    use Operation::*;
    [
        post("/rooms/{room}/messages", PublishToRoom),
        post("/messages", PublishBatch),
        get("/rooms", ListRooms),
        get("/rooms/{room}", ShowRoom),
        get("/rooms/{room}/history", ShowHistory),
        get("/rooms/{room}/presence", ShowPresence),
        get("/counts", ShowCounts),
        post("/users/{user}/messages", PublishToUser),
        post("/users/{user}/disconnect", DisconnectUser),
        get("/openapi.json", Document),
    ]
};

/// Where the API is.
pub(super) const PREFIX: &str = "/api/v1";

/// The operation of a request, and what stands at the `{…}` of its path.
///
/// Errors: `not_found`, also for what is not UTF-8 when decoded; `method_not_allowed`.
pub(super) fn find(method: &Method, path: &str) -> Result<(Operation, String), Problem> {
    let path = path.strip_prefix(PREFIX).ok_or_else(Problem::not_found)?;
    let here = ROUTES.iter().find_map(|route| Some((route, named(route.path, path)?)));
    let (route, name) = here.ok_or_else(Problem::not_found)?;
    let name = percent_decode_str(name).decode_utf8().map_err(|_| Problem::not_found())?;
    // No path has two operations, which a test makes sure of.
    match route.allow.contains(method) {
        true => Ok((route.operation, name.into_owned())),
        false => Err(Problem::method_not_allowed(route.allow)),
    }
}

impl Route {
    /// The method.
    #[cfg(test)]
    pub(super) fn method(&self) -> &Method {
        &self.allow[0]
    }
}

const fn get(path: &'static str, operation: Operation) -> Route {
    Route { path, operation, allow: &[Method::GET, Method::HEAD] }
}

const fn post(path: &'static str, operation: Operation) -> Route {
    Route { path, operation, allow: &[Method::POST] }
}

/// What stands at the `{…}` of a pattern (nothing, if there is none), when the path is of the pattern.
fn named<'p>(pattern: &str, path: &'p str) -> Option<&'p str> {
    let Some((before, rest)) = pattern.split_once('{') else {
        return (pattern == path).then_some("");
    };
    let after = rest.split_once('}').map_or("", |(_, after)| after);
    let name = path.strip_prefix(before)?.strip_suffix(after)?;
    (!name.is_empty() && !name.contains('/')).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_find_operations() {
        let find = |method, path: &str| {
            find(&method, &format!("{PREFIX}{path}")).map_err(|problem| problem.status.as_u16())
        };
        let found = |operation, name: &str| Ok((operation, name.to_owned()));
        assert_eq!(find(Method::GET, "/rooms"), found(Operation::ListRooms, ""));
        assert_eq!(find(Method::HEAD, "/rooms/a"), found(Operation::ShowRoom, "a"));
        assert_eq!(
            find(Method::POST, "/rooms/a%2Fb%3ac/messages"),
            found(Operation::PublishToRoom, "a/b:c")
        );
        assert_eq!(
            find(Method::GET, "/rooms/history/history"),
            found(Operation::ShowHistory, "history")
        );
        assert_eq!(find(Method::GET, "/rooms/a+b"), found(Operation::ShowRoom, "a+b"));
        assert_eq!(find(Method::GET, "/rooms/%zz"), found(Operation::ShowRoom, "%zz"));
        for path in ["", "/", "/rooms/", "/rooms/a/", "/rooms//history", "/rooms/a/b", "/rooms/%ff"]
        {
            assert_eq!(find(Method::GET, path), Err(404), "{path}");
        }
        for (method, path) in [
            (Method::POST, "/rooms"),
            (Method::GET, "/messages"),
            (Method::DELETE, "/rooms/a/messages"),
            (Method::OPTIONS, "/counts"),
        ] {
            assert_eq!(find(method, path), Err(405), "{path}");
        }
    }

    #[test]
    fn every_path_is_one_operation() {
        let mut paths: Vec<_> = ROUTES.iter().map(|route| route.path).collect();
        paths.sort_unstable();
        paths.dedup();
        assert_eq!(paths.len(), ROUTES.len());
        for route in &ROUTES {
            let path = route.path.replace(['{', '}'], "");
            let found = find(route.method(), &format!("{PREFIX}{path}")).unwrap();
            assert_eq!(found.0, route.operation, "{path}");
        }
    }
}
