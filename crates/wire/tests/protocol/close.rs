//! RFC 6455 §5.5.1, §7.4: close frames.

use throng_wire::{CloseCode, ProtocolError, encode_close};

use crate::peer::{CLOSE, KEY, Seen, TEXT, accepted, frame, refused};

#[test]
fn a_close_frame_may_say_nothing() {
    assert_eq!(accepted(&frame(CLOSE, b"")), [Seen::Close(None)]);
}

#[test]
fn a_close_frame_may_say_why() {
    for code in (1000..=1003).chain(1007..=1014).chain([3000, 3999, 4000, 4999]) {
        let code = CloseCode::new(code).unwrap();
        for reason in ["", "because", "päng", &"x".repeat(123)] {
            let mut bytes = Vec::new();
            encode_close(&mut bytes, Some(code), reason, Some(KEY)).unwrap();
            assert_eq!(accepted(&bytes), [Seen::Close(Some((code.get(), reason.to_owned())))]);
        }
    }
}

#[test]
fn nothing_counts_after_a_close_frame() {
    let bytes = [frame(CLOSE, b""), frame(TEXT, b"more"), frame(0x83, b"")].concat();
    assert_eq!(accepted(&bytes), [Seen::Close(None)]);
}

#[test]
fn half_a_code_is_refused() {
    let error = refused(&frame(CLOSE, b"\x03"));
    assert_eq!(error, ProtocolError::CloseTooShort);
    assert_eq!(error.close_code(), CloseCode::PROTOCOL);
}

#[test]
fn codes_that_must_not_travel_are_refused() {
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 0xffff_u16] {
        let error = refused(&frame(CLOSE, &code.to_be_bytes()));
        assert_eq!(error, ProtocolError::CloseCode { code });
        assert_eq!(error.close_code(), CloseCode::PROTOCOL);
    }
}

#[test]
fn a_reason_is_utf8() {
    for reason in [&b"\xff"[..], b"\xc3", b"ok \xed\xa0\x80", b"\xf4\x90\x80\x80"] {
        let error = refused(&frame(CLOSE, &[b"\x03\xe8", reason].concat()));
        assert_eq!(error, ProtocolError::CloseReason);
        assert_eq!(error.close_code(), CloseCode::INVALID_PAYLOAD);
    }
}

#[test]
fn every_error_says_something_in_one_line() {
    for error in [
        ProtocolError::ReservedOpcode { opcode: 3 },
        ProtocolError::CloseCode { code: 1005 },
        ProtocolError::FrameTooBig { announced: 1 << 40, limit: 10 },
        ProtocolError::Utf8,
    ] {
        let text = error.to_string();
        assert!(text.len() > 10 && text.len() < 124 && !text.contains('\n'), "{text}");
    }
}
