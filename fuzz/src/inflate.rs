//! Compressed messages.

use std::cell::RefCell;

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};
use throng_wire::ProtocolError;
use throng_wire::deflate::{Deflater, History, Inflater};

/// Inflates data within a limit, compares with another inflate, and makes the round trip.
///
/// The first byte chooses the compressor and the window, the next two are the limit, the fourth
/// is where to cut; the rest is the data.
pub fn inflate(data: &[u8]) {
    let &[settings, high, low, cut, ref data @ ..] = data else { return };
    let limit = usize::from(u16::from_be_bytes([high, low]));
    let mut inflater = Inflater::new();

    let ours = inflater.inflate(data, None, limit).map(|message| message.to_vec());
    if let Ok(message) = &ours {
        assert!(message.len() <= limit);
    }
    match (miniz(data, limit), &ours) {
        (Miniz::Message(theirs), Ok(ours)) => assert_eq!(*ours, theirs),
        (Miniz::Message(theirs), Err(error)) => panic!("{error}, not {} bytes", theirs.len()),
        (Miniz::TooBig, Err(ProtocolError::MessageTooBig { .. })) => {}
        // It may go on reading and find the error first, or the other way round.
        (Miniz::TooBig | Miniz::Corrupt, Err(_)) => {}
        (Miniz::TooBig, Ok(_)) => panic!("it is longer than {limit}"),
        (Miniz::Corrupt, Ok(message)) => panic!("it is corrupt, not {} bytes", message.len()),
        (Miniz::Several, _) => {}
    }

    // Two messages of one connection, in an inflater that others have used.
    let (first, second) = data.split_at(usize::from(cut).min(data.len()));
    let mut history = History::new(9 + settings % 7);
    for message in [first, second] {
        if let Ok(message) = inflater.inflate(message, Some(&mut history), limit) {
            assert!(message.len() <= limit);
        }
        assert!(history.capacity() <= 1 << (9 + settings % 7));
    }

    DEFLATERS.with_borrow_mut(|deflaters| {
        let (bits, deflater) = &mut deflaters[usize::from(settings) % 4];
        let (mut alone, mut taking_over) = (Vec::new(), Vec::new());
        deflater.compress(data, &mut alone);
        deflater.compress_with_context(data, &mut taking_over);
        let mut history = History::new(*bits);
        for deflated in [alone, taking_over] {
            // Level 1 does not fall back to stored blocks: nine bits to a byte at worst.
            assert!(deflated.len() <= data.len() + data.len() / 8 + 16, "it grows too much");
            let message = inflater.inflate(&deflated, Some(&mut history), data.len());
            assert_eq!(message.expect("the round trip"), data);
        }
    });
}

thread_local! {
    static DEFLATERS: RefCell<[(u8, Deflater); 4]> = RefCell::new(
        [(1, 15), (3, 9), (6, 12), (9, 15)].map(|(level, bits)| (bits, Deflater::new(level, 8, bits)))
    );
}

/// What miniz_oxide makes of a message.
enum Miniz {
    Message(Vec<u8>),
    TooBig,
    Corrupt,
    /// It has several streams, of which miniz_oxide reads but the first.
    Several,
}

fn miniz(data: &[u8], limit: usize) -> Miniz {
    // What was taken off the message, and an empty last block.
    let input = [data, &[0, 0, 0xff, 0xff, 1, 0, 0, 0xff, 0xff]].concat();
    let mut output = vec![0; limit + 1];
    let flags = inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let (status, read, written) =
        decompress(&mut DecompressorOxide::new(), &input, &mut output, 0, flags);
    output.truncate(written);
    match status {
        TINFLStatus::Done if read < input.len() => Miniz::Several,
        TINFLStatus::Done | TINFLStatus::HasMoreOutput if written > limit => Miniz::TooBig,
        TINFLStatus::Done => Miniz::Message(output),
        _ => Miniz::Corrupt,
    }
}
