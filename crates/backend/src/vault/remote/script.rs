use crate::redis::remote::Script;

macro_rules! script {
    ($first:literal, $($part:literal),+) => {
        Script::new(concat!($first, include_str!("prelude.lua"), $(include_str!($part)),+))
    };
}

/// What must not be forgotten once it was done, and is not done while too few replicas are connected. The last argument
/// is how many there have to be.
macro_rules! cautious {
    ($first:literal, $($part:literal),+) => {
        script!($first, "replicas.lua", "refuse.lua", $($part),+)
    };
}

/// What must not be forgotten either, but is done in any case: to refuse it would be worse. Also whether enough replicas
/// are connected is answered.
macro_rules! firm {
    ($first:literal, $($part:literal),+) => {
        script!($first, "replicas.lua", "do.lua", $($part),+, "done.lua")
    };
}

/// How scripts begin that Redis refuses when its memory is full.
pub(super) const MAY_BE_REFUSED: &str = "#!lua\n";

pub(super) static ISSUE: Script = script!("#!lua\n", "issue.lua");
pub(super) static REDEEM: Script = cautious!("#!lua\n", "ticket.lua", "redeem.lua");
pub(super) static RENEW: Script = cautious!("#!lua\n", "ticket.lua", "renew.lua");
pub(super) static BEGIN: Script = script!("#!lua\n", "begin.lua");
pub(super) static SESSIONS: Script = script!("#!lua\n", "sessions.lua");
pub(super) static PUT_USER: Script = firm!("#!lua\n", "put_user.lua");
pub(super) static USER: Script = script!("#!lua\n", "user.lua");
pub(super) static USERS: Script = script!("#!lua\n", "users.lua");
pub(super) static ROTATE: Script = firm!("#!lua\n", "rotate.lua");

// What takes away, or hardly adds anything, is done even when the memory is full.
pub(super) static LOAD: Script = script!("#!lua flags=allow-oom\n", "load.lua");
pub(super) static FIND: Script = script!("#!lua flags=allow-oom\n", "find.lua");
pub(super) static CHECK: Script = script!("#!lua flags=allow-oom\n", "check.lua");
pub(super) static END: Script = script!("#!lua flags=allow-oom\n", "end.lua");
pub(super) static SWEEP: Script = script!("#!lua flags=allow-oom\n", "sweep.lua");
pub(super) static REVOKE_SESSION: Script = firm!("#!lua flags=allow-oom\n", "revoke_session.lua");
pub(super) static REVOKE_USER: Script = firm!("#!lua flags=allow-oom\n", "revoke_user.lua");
pub(super) static REVOKE_TOKEN: Script = firm!("#!lua flags=allow-oom\n", "revoke_token.lua");
pub(super) static REMOVE_USER: Script = firm!("#!lua flags=allow-oom\n", "remove_user.lua");
pub(super) static EDIT: Script = firm!("#!lua flags=allow-oom\n", "edit.lua");
