//! Which endpoint is at which path.

use throng_protocol::names;

use crate::endpoint::{Endpoint, Kind};

/// A table of endpoints by path, in the order they were mounted.
#[derive(Clone, Default)]
pub(crate) struct Table(Vec<Mount>);

/// An endpoint at a path.
#[derive(Clone)]
pub(crate) struct Mount {
    path: String,
    pub(crate) endpoint: Endpoint,
}

/// A path an endpoint can't be mounted at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a path: it must begin with `/`, and may not contain `{{`, `}}`, `?` or `#`")]
pub struct BadPath(pub String);

impl Table {
    /// Of several endpoints for one path the last counts.
    pub(crate) fn new(
        endpoints: impl IntoIterator<Item = (String, Endpoint)>,
    ) -> Result<Self, BadPath> {
        let mut mounts: Vec<Mount> = Vec::new();
        for (path, endpoint) in endpoints {
            if !path.starts_with('/') || path.contains(['{', '}', '?', '#']) {
                return Err(BadPath(path));
            }
            mounts.retain(|mount| mount.path != path);
            mounts.push(Mount { path, endpoint });
        }
        Ok(Self(mounts))
    }

    /// The paths, as axum writes them.
    pub(crate) fn routes(&self) -> impl Iterator<Item = String> + '_ {
        self.0.iter().flat_map(|mount| {
            let below = mount.has_rooms().then(|| format!("{}/{{room}}", mount.path));
            [Some(mount.path.clone()), below].into_iter().flatten()
        })
    }

    /// The endpoint at a path, and the room that the path names.
    pub(crate) fn find<'p>(&self, path: &'p str) -> Option<(&Mount, Option<&'p str>)> {
        let exact = self.0.iter().find(|mount| mount.path == path);
        if let Some(mount) = exact {
            return Some((mount, None));
        }
        let (parent, room) = path.rsplit_once('/')?;
        let mount = self.0.iter().find(|mount| mount.path == parent && mount.has_rooms())?;
        names::is_room(room).then_some((mount, Some(room)))
    }
}

impl Mount {
    /// Whether rooms are named below its path. Not at `/`, where every path would be a room.
    fn has_rooms(&self) -> bool {
        self.path.len() > 1 && matches!(self.endpoint.kind, Kind::Rooms(_) | Kind::Relay(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let endpoints = [
            ("/", Endpoint::rooms("lobby")),
            ("/ws", Endpoint::rooms("lobby")),
            ("/relay", Endpoint::relay("lobby")),
            ("/echo", Endpoint::echo()),
        ];
        Table::new(endpoints.map(|(path, endpoint)| (path.to_owned(), endpoint))).unwrap()
    }

    #[test]
    fn paths_find_endpoints_and_rooms() {
        let table = table();
        let room = |path| table.find(path).map(|(mount, room)| (mount.path.as_str(), room));
        assert_eq!(room("/ws"), Some(("/ws", None)));
        assert_eq!(room("/ws/chat:1"), Some(("/ws", Some("chat:1"))));
        assert_eq!(room("/"), Some(("/", None)));
        assert_eq!(room("/nothing"), None);
        assert_eq!(room("/ws/"), None);
        assert_eq!(room("/ws/a/b"), None);
        assert_eq!(room("/ws/%2e%2e"), None);
        assert_eq!(room("/echo/x"), None);
    }

    #[test]
    fn bad_paths_are_refused() {
        for path in ["ws", "", "/ws/{room}", "/a?b"] {
            let mounted = Table::new([(path.to_owned(), Endpoint::echo())]);
            assert_eq!(mounted.err(), Some(BadPath(path.into())));
        }
    }
}
