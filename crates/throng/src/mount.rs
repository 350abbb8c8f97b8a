//! Which endpoint is at which path.

use throng_engine::Space;
use throng_protocol::names;

use crate::endpoint::{Endpoint, Kind};

/// A table of endpoints by path, in the order they were mounted.
#[derive(Clone, Default)]
pub(crate) struct Table(Vec<Mount>);

/// An endpoint at a path.
#[derive(Clone)]
pub(crate) struct Mount {
    path: String,
    pub(crate) endpoint: std::sync::Arc<Endpoint>,
    /// The universe its rooms are in.
    pub(crate) space: Space,
}

/// A path an endpoint can't be mounted at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a path: it must begin with `/`, and may not contain `{{`, `}}`, `?` or `#`")]
pub struct BadPath(pub String);

impl Table {
    pub(crate) fn mount(
        &mut self,
        path: String,
        endpoint: Endpoint,
        space: Space,
    ) -> Result<(), BadPath> {
        if !path.starts_with('/') || path.contains(['{', '}', '?', '#']) {
            return Err(BadPath(path));
        }
        self.0.retain(|mount| mount.path != path);
        self.0.push(Mount { path, endpoint: std::sync::Arc::new(endpoint), space });
        Ok(())
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
        let mut table = Table::default();
        for (path, endpoint) in [
            ("/", Endpoint::rooms("lobby")),
            ("/ws", Endpoint::rooms("lobby")),
            ("/relay", Endpoint::relay("lobby")),
            ("/echo", Endpoint::echo()),
        ] {
            table.mount(path.into(), endpoint, Space(0)).unwrap();
        }
        table
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
            let mounted = Table::default().mount(path.into(), Endpoint::echo(), Space(0));
            assert_eq!(mounted, Err(BadPath(path.into())));
        }
    }
}
