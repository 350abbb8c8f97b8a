//! Asking for a password: from a terminal without showing it, or from a pipe.

use std::fmt;
use std::io::{self, BufRead, Read, Write as _};

use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, isatty, tcgetattr, tcsetattr,
};

/// Why there is no password.
#[derive(Debug)]
pub(crate) enum PromptError {
    /// Nobody can be asked: this is not a terminal.
    NoTerminal,
    /// It was typed differently the second time.
    Differ,
    /// Ctrl-C or Ctrl-D.
    Cancelled,
    /// Too short, too long, or not text.
    Unfit(String),
    /// It could not be read.
    Io(io::Error),
}

/// A new password, typed twice; or the first line of what comes on stdin.
pub(crate) fn new_password(from_stdin: bool) -> Result<String, PromptError> {
    let password = if from_stdin {
        from_pipe(io::stdin().lock())?
    } else {
        if !isatty(io::stdin()) {
            return Err(PromptError::NoTerminal);
        }
        let first = typed("Password: ")?;
        fit(&first)?;
        if typed("Again: ")? != first {
            return Err(PromptError::Differ);
        }
        first
    };
    fit(&password)?;
    Ok(password)
}

fn fit(password: &str) -> Result<(), PromptError> {
    let unfit = |text: &str| Err(PromptError::Unfit(text.to_owned()));
    if password.chars().count() < SHORTEST {
        return unfit("a password has at least 8 characters");
    }
    if password.len() > LONGEST {
        return unfit("a password has at most 1024 bytes");
    }
    Ok(())
}

/// The first line.
fn from_pipe(stdin: impl Read) -> Result<String, PromptError> {
    let mut bytes = Vec::new();
    let most = LONGEST as u64 + 2;
    stdin.take(most).read_to_end(&mut bytes).map_err(PromptError::Io)?;
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let not_text = || PromptError::Unfit("a password is text in UTF-8".to_owned());
    String::from_utf8(line.to_vec()).map_err(|_| not_text())
}

/// One line from the terminal, which shows nothing of it.
fn typed(question: &str) -> Result<String, PromptError> {
    let mut terminal = io::stderr();
    let _ = terminal.write_all(question.as_bytes()).and_then(|()| terminal.flush());
    let quiet = Quiet::start().map_err(PromptError::Io)?;
    let line = edited(io::stdin().lock());
    drop(quiet);
    let _ = terminal.write_all(b"\n");
    line
}

/// Reads keys up to Enter. Byte by byte: the terminal does nothing by itself meanwhile, so that Ctrl-C cannot
/// leave it silent.
fn edited(keys: impl BufRead) -> Result<String, PromptError> {
    let mut line = Vec::new();
    for key in keys.bytes() {
        match key.map_err(PromptError::Io)? {
            b'\r' | b'\n' => {
                let text = String::from_utf8(line);
                return text.map_err(|_| PromptError::Unfit("a password is text".to_owned()));
            }
            CTRL_C => return Err(PromptError::Cancelled),
            CTRL_D if line.is_empty() => return Err(PromptError::Cancelled),
            CTRL_U => line.clear(),
            BACKSPACE | DELETE => {
                // A whole character.
                while line.pop().is_some_and(|byte| byte & 0xC0 == 0x80) {}
            }
            byte if line.len() <= LONGEST => line.push(byte),
            _ => {}
        }
    }
    Err(PromptError::Cancelled)
}

/// A terminal that shows nothing, until this is dropped.
struct Quiet {
    before: Termios,
}

impl Quiet {
    fn start() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut modes = before.clone();
        modes.local_modes &= !(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        modes.special_codes[SpecialCodeIndex::VMIN] = 1;
        modes.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(io::stdin(), OptionalActions::Flush, &modes)?;
        Ok(Self { before })
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.before);
    }
}

impl fmt::Display for PromptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTerminal => f.write_str(
                "there is no terminal to ask for the password; give it with --password-stdin",
            ),
            Self::Differ => f.write_str("the two passwords are not the same"),
            Self::Cancelled => f.write_str("cancelled"),
            Self::Unfit(text) => f.write_str(text),
            Self::Io(error) => write!(f, "cannot read the password: {}", crate::reason(error)),
        }
    }
}

/// In characters.
const SHORTEST: usize = 8;
/// In bytes: more cannot be sent to `POST /login`, either.
const LONGEST: usize = 1024;
const CTRL_C: u8 = 3;
const CTRL_D: u8 = 4;
const BACKSPACE: u8 = 8;
const CTRL_U: u8 = 21;
const DELETE: u8 = 127;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_edited() {
        let line = |keys: &[u8]| edited(keys).ok();
        assert_eq!(line(b"secret\r"), Some("secret".into()));
        assert_eq!(line("sä\u{7f}ecx\u{8}ret\nmore".as_bytes()), Some("secret".into()));
        assert_eq!(line(b"wrong\x15right\n"), Some("right".into()));
        assert_eq!(line(b"\x7f\n"), Some(String::new()));
        for cancelled in [&b"abc\x03"[..], b"\x04", b"abc", b"\xff\n"] {
            assert_eq!(line(cancelled), None, "{cancelled:?}");
        }
    }

    #[test]
    fn a_pipe_gives_its_first_line() {
        let line = |bytes: &[u8]| from_pipe(bytes).ok();
        for bytes in [&b"secret"[..], b"secret\n", b"secret\r\n", b"secret\nmore\n"] {
            assert_eq!(line(bytes), Some("secret".into()), "{bytes:?}");
        }
        assert_eq!(line(b""), Some(String::new()));
        assert_eq!(line(b"\xff"), None);
        assert!(fit(&"x".repeat(LONGEST)).is_ok() && fit("8 bytes!").is_ok());
        assert!(fit("7 bytes").is_err() && fit(&line(&[b'x'; 9999]).unwrap()).is_err());
    }
}
