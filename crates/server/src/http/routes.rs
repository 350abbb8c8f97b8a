//! What the API serves: one table, from which requests are dispatched and against which the OpenAPI
//! document is tested.

use http::Method;
use percent_encoding::percent_decode_str;

use super::answer::Problem;
use crate::config::Scopes;

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    PublishToRoom,
    PublishBatch,
    PublishToUser,
    ListRooms,
    ShowRoom,
    ShowHistory,
    ShowPresence,
    ShowCounts,
    ListNodes,
    ShowNode,
    DrainNode,
    UndrainNode,
    IssueTicket,
    ListSessions,
    ListSessionsOfUser,
    RevokeSession,
    RevokeUser,
    RevokeToken,
    DisconnectUser,
    ListMembers,
    SetMember,
    RemoveMember,
    Kick,
    ListBans,
    Ban,
    LiftBan,
    ListBansOfRoom,
    BanFromRoom,
    LiftBanOfRoom,
    Document,
}

/// An operation and where it is. `{…}` stands for one segment, percent-encoded.
pub(super) struct Route {
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) operation: Operation,
}

/// All of them, below [`PREFIX`].
pub(super) static ROUTES: [Route; 30] = {
    use Operation::*;
    [
        post("/rooms/{room}/messages", PublishToRoom),
        post("/messages", PublishBatch),
        post("/users/{user}/messages", PublishToUser),
        get("/rooms", ListRooms),
        get("/rooms/{room}", ShowRoom),
        get("/rooms/{room}/history", ShowHistory),
        get("/rooms/{room}/presence", ShowPresence),
        get("/counts", ShowCounts),
        get("/nodes", ListNodes),
        get("/nodes/{node}", ShowNode),
        post("/nodes/{node}/drain", DrainNode),
        delete("/nodes/{node}/drain", UndrainNode),
        post("/tickets", IssueTicket),
        get("/sessions", ListSessions),
        delete("/sessions/{session}", RevokeSession),
        get("/users/{user}/sessions", ListSessionsOfUser),
        post("/users/{user}/revoke", RevokeUser),
        post("/tokens/{token}/revoke", RevokeToken),
        post("/users/{user}/disconnect", DisconnectUser),
        get("/bans", ListBans),
        post("/bans", Ban),
        delete("/bans/{user}", LiftBan),
        get("/rooms/{room}/members", ListMembers),
        put("/rooms/{room}/members/{user}", SetMember),
        delete("/rooms/{room}/members/{user}", RemoveMember),
        post("/rooms/{room}/kick", Kick),
        get("/rooms/{room}/bans", ListBansOfRoom),
        post("/rooms/{room}/bans", BanFromRoom),
        delete("/rooms/{room}/bans/{user}", LiftBanOfRoom),
        get("/openapi.json", Document),
    ]
};

/// Where the API is.
pub(super) const PREFIX: &str = "/api/v1";

/// The operation of a request, and what stands at the `{…}` of its path.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) operation: Operation,
    names: Vec<String>,
}

/// Finds the operation of a request.
///
/// Errors: `not_found`, also for what is not UTF-8 when decoded; `method_not_allowed`.
pub(super) fn find(method: &Method, path: &str) -> Result<Found, Problem> {
    let path = path.strip_prefix(PREFIX).ok_or_else(Problem::not_found)?;
    let mut allow = Vec::new();
    for route in &ROUTES {
        let Some(names) = named(route.path, path) else { continue };
        if route.method == *method || (route.method == Method::GET && *method == Method::HEAD) {
            let decode = |name: &str| Some(percent_decode_str(name).decode_utf8().ok()?.into());
            let names: Option<Vec<String>> = names.into_iter().map(decode).collect();
            let names = names.ok_or_else(Problem::not_found)?;
            return Ok(Found { operation: route.operation, names });
        }
        allow.push(route.method.clone());
        if route.method == Method::GET {
            allow.push(Method::HEAD);
        }
    }
    Err(match allow.is_empty() {
        true => Problem::not_found(),
        false => Problem::method_not_allowed(allow),
    })
}

impl Found {
    /// What stands at the first `{…}`; nothing when there is none.
    pub(super) fn name(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }

    /// What stands at the second `{…}`.
    pub(super) fn second(&self) -> &str {
        self.names.get(1).map_or("", String::as_str)
    }
}

impl Operation {
    /// What a key must be good for.
    pub(super) fn scope(self) -> Scopes {
        use Operation::*;
        match self {
            PublishToRoom | PublishBatch | PublishToUser => Scopes::PUBLISH,
            ListRooms | ShowRoom | ShowHistory | ShowPresence | ShowCounts | ListNodes
            | ShowNode | Document => Scopes::READ,
            DrainNode | UndrainNode => Scopes::NODES,
            IssueTicket => Scopes::TICKETS,
            ListSessions | ListSessionsOfUser | RevokeSession | RevokeUser | RevokeToken
            | DisconnectUser | ListBans | Ban | LiftBan => Scopes::SESSIONS,
            ListMembers | SetMember | RemoveMember | Kick | ListBansOfRoom | BanFromRoom
            | LiftBanOfRoom => Scopes::ROOMS,
        }
    }
}

const fn get(path: &'static str, operation: Operation) -> Route {
    Route { method: Method::GET, path, operation }
}

const fn post(path: &'static str, operation: Operation) -> Route {
    Route { method: Method::POST, path, operation }
}

const fn put(path: &'static str, operation: Operation) -> Route {
    Route { method: Method::PUT, path, operation }
}

const fn delete(path: &'static str, operation: Operation) -> Route {
    Route { method: Method::DELETE, path, operation }
}

/// What stands at each `{…}` of a pattern, when the path is of the pattern.
fn named<'p>(pattern: &str, path: &'p str) -> Option<Vec<&'p str>> {
    let mut names = Vec::new();
    let (mut wanted, mut given) = (pattern.split('/'), path.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return Some(names),
            (Some(wanted), Some(given)) if wanted.starts_with('{') && !given.is_empty() => {
                names.push(given);
            }
            (Some(wanted), Some(given)) if wanted == given => {}
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_find_operations() {
        let find = |method, path: &str| {
            find(&method, &format!("{PREFIX}{path}")).map_err(|problem| problem.status.as_u16())
        };
        let found = |operation, names: &[&str]| {
            Ok(Found { operation, names: names.iter().map(|name| (*name).to_owned()).collect() })
        };
        assert_eq!(find(Method::GET, "/rooms"), found(Operation::ListRooms, &[]));
        assert_eq!(find(Method::HEAD, "/rooms/a"), found(Operation::ShowRoom, &["a"]));
        assert_eq!(
            find(Method::POST, "/rooms/a%2Fb%3ac/messages"),
            found(Operation::PublishToRoom, &["a/b:c"])
        );
        assert_eq!(
            find(Method::GET, "/rooms/history/history"),
            found(Operation::ShowHistory, &["history"])
        );
        assert_eq!(find(Method::GET, "/rooms/a+b"), found(Operation::ShowRoom, &["a+b"]));
        assert_eq!(find(Method::GET, "/rooms/%zz"), found(Operation::ShowRoom, &["%zz"]));
        assert_eq!(
            find(Method::PUT, "/rooms/a%2Fb/members/u%2f1"),
            found(Operation::SetMember, &["a/b", "u/1"])
        );
        assert_eq!(
            find(Method::DELETE, "/sessions/{session}"),
            found(Operation::RevokeSession, &["{session}"])
        );
        for path in [
            "",
            "/",
            "/rooms/",
            "/rooms/a/",
            "/rooms//history",
            "/rooms/a/b",
            "/rooms/%ff",
            "/rooms/a/members/b/c",
            "/{room}",
        ] {
            assert_eq!(find(Method::GET, path), Err(404), "{path}");
        }
        for (method, path) in [
            (Method::POST, "/rooms"),
            (Method::GET, "/messages"),
            (Method::DELETE, "/rooms/a/messages"),
            (Method::OPTIONS, "/counts"),
            (Method::POST, "/sessions/s"),
        ] {
            assert_eq!(find(method, path), Err(405), "{path}");
        }
    }

    #[test]
    fn what_is_allowed_is_said() {
        let allow = |path: &str| {
            let problem = find(&Method::PATCH, &format!("{PREFIX}{path}")).unwrap_err();
            problem.response().headers()["allow"].to_str().unwrap().to_owned()
        };
        assert_eq!(allow("/bans"), "GET, HEAD, POST");
        assert_eq!(allow("/rooms/a/members/u"), "PUT, DELETE");
        assert_eq!(allow("/counts"), "GET, HEAD");
    }

    #[test]
    fn every_path_is_one_operation() {
        for route in &ROUTES {
            let path = route.path.replace(['{', '}'], "");
            let found = find(&route.method, &format!("{PREFIX}{path}")).unwrap();
            assert_eq!(found.operation, route.operation, "{path}");
            assert_eq!(found.names.len(), route.path.matches('{').count());
        }
    }
}
