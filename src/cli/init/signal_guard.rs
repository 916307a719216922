//! The end by a signal while questions are asked.

use std::io;
use std::process;
use std::thread;

use rustix::termios::{OptionalActions, Termios, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use super::words::say;

/// Added to the number of a signal, as shells do.
const EXIT_BY_SIGNAL: i32 = 128;

/// While it lives, a signal gives the terminal back and ends the program. Dropped, signals are ignored, until there is
/// another one: so what is written then is written whole.
pub struct SignalGuard {
    handle: Handle,
}

impl SignalGuard {
    /// # Errors
    /// The handlers or their thread cannot be set up.
    pub fn guard(terminal: Option<Termios>) -> io::Result<Self> {
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGQUIT])?;
        let handle = signals.handle();
        thread::Builder::new().name("flow-signals".into()).spawn(move || {
            if let Some(signal) = signals.forever().next() {
                if let Some(terminal) = &terminal {
                    let _ = tcsetattr(io::stdin(), OptionalActions::Now, terminal);
                }
                say("\n");
                process::exit(EXIT_BY_SIGNAL + signal);
            }
        })?;
        Ok(SignalGuard { handle })
    }
}

impl Drop for SignalGuard {
    fn drop(&mut self) {
        self.handle.close();
    }
}
