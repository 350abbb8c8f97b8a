// The error table: every code the server may send, and whether the same request may succeed later.
// The source is crates/protocol/src/error.rs; a test compares the two.
export const CODES = /** @type {const} */ ({
  bad_json: false,
  bad_message: false,
  unknown_room: false,
  reserved_field: false,
  invalid_payload: false,
  not_joined: false,
  already_joined: false,
  forbidden: false,
  unauthorized: false,
  rate_limited: true,
  too_large: false,
  too_many_rooms: false,
  room_full: true,
  stale_epoch: false,
  unavailable: true,
  overloaded: true,
  unsupported_data: false,
  internal: true,
});
