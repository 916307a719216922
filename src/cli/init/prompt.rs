//! Questions on stderr and answers from stdin.
//!
//! Invariant: what is typed as a secret is not shown, and the terminal shows again what is typed when this ends, by
//! SIGINT, SIGTERM, SIGHUP or SIGQUIT too. Answers are erased from memory by their users.

use std::io::{self, IsTerminal};

use rustix::io::Errno;
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use super::signal_guard::SignalGuard;
use super::words::say;

/// Stands for no character (termios(3), `_POSIX_VDISABLE`).
const DISABLED: u8 = 0;
/// Limit on an answer: that of a terminal's line (termios(3), canonical mode).
const ANSWER_BYTES_MAX: usize = 4096;

pub struct Prompt {
    /// The terminal as it was; `None`: answers come from something else.
    terminal: Option<Termios>,
    /// Gives the terminal back when a signal ends the program.
    _signals: SignalGuard,
}

impl Prompt {
    /// # Errors
    /// The terminal or the signals cannot be set up.
    pub fn open() -> io::Result<Self> {
        let terminal = if io::stdin().is_terminal() { Some(tcgetattr(io::stdin())?) } else { None };
        let signals = SignalGuard::guard(terminal.clone())?;
        Ok(Prompt { terminal, _signals: signals })
    }

    /// Asks, and returns the answer without white space around it; `None` where there are no more.
    ///
    /// # Errors
    /// It cannot be read, or is too long or no text.
    pub fn ask(&mut self, question: &str) -> io::Result<Option<Zeroizing<String>>> {
        say(question);
        let answer = read_line();
        if self.terminal.is_none() {
            say("\n");
        }
        answer
    }

    /// Asks for what is not shown.
    ///
    /// # Errors
    /// As [`Prompt::ask`]; or the terminal cannot be kept from showing it.
    pub fn ask_hidden(&mut self, question: &str) -> io::Result<Option<Zeroizing<String>>> {
        let Some(shown) = &self.terminal else { return self.ask(question) };
        let mut hidden = shown.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        // The end of the line is typed too.
        hidden.local_modes.remove(LocalModes::ECHONL);
        // A shell does not hide it again when the program goes on after a Ctrl-Z.
        hidden.special_codes[SpecialCodeIndex::VSUSP] = DISABLED;
        tcsetattr(io::stdin(), OptionalActions::Now, &hidden)?;
        say(question);
        let answer = read_line();
        let restored = tcsetattr(io::stdin(), OptionalActions::Now, shown);
        say("\n");
        restored?;
        answer
    }
}

/// Reads byte by byte: a buffer would keep a copy, and swallow what is for the next program on a pipe.
fn read_line() -> io::Result<Option<Zeroizing<String>>> {
    // So that it is never moved, and no copy stays behind.
    let mut line = Zeroizing::new(Vec::with_capacity(ANSWER_BYTES_MAX));
    let mut byte = Zeroizing::new([0_u8]);
    loop {
        match rustix::io::read(io::stdin(), &mut *byte) {
            Ok(0) if line.is_empty() => return Ok(None),
            Ok(0) => break,
            Ok(_) if byte[0] == b'\n' => break,
            Ok(_) if line.len() == ANSWER_BYTES_MAX => return Err(invalid("an answer is too long")),
            Ok(_) => line.push(byte[0]),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let text = std::str::from_utf8(&line).map_err(|_| invalid("an answer is not UTF-8 text"))?;
    Ok(Some(Zeroizing::new(text.trim().to_owned())))
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
