//! The terminal while the page is shown.
//!
//! Invariant: it is given back as it was when this ends, by a key, SIGTERM, SIGHUP or a panic.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::flag;

use super::error::TopError;
use super::feed::{News, WakeOrder};
use super::page::{TopPage, Wish};
use super::view;

/// The longest that a signal or news waits for a look.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
const SIGNALS: [i32; 4] = [SIGTERM, SIGHUP, SIGINT, SIGQUIT];

pub struct Display {
    terminal: DefaultTerminal,
    /// The signal that asks for the end; 0: none.
    signal: Arc<AtomicUsize>,
}

impl Display {
    /// Takes the terminal. A panic gives it back before it says anything.
    ///
    /// # Errors
    /// It cannot be set up.
    pub fn open() -> io::Result<Self> {
        let signal = Arc::new(AtomicUsize::new(0));
        for number in SIGNALS {
            flag::register_usize(number, signal.clone(), number as usize)?;
        }
        Ok(Display { terminal: ratatui::try_init()?, signal })
    }

    /// Shows the page until the user has seen enough.
    ///
    /// # Errors
    /// A signal has ended it, or the terminal is gone.
    pub fn show(
        mut self,
        page: &mut TopPage,
        news: &Receiver<News>,
        orders: &Sender<WakeOrder>,
    ) -> Result<(), TopError> {
        let mut is_changed = true;
        loop {
            if is_changed {
                self.terminal.draw(|frame| view::draw(frame, page)).map_err(TopError::Terminal)?;
            }
            is_changed = event::poll(LOOK_INTERVAL).map_err(TopError::Terminal)?;
            let signal = self.signal.load(Ordering::Relaxed);
            if signal != 0 {
                return Err(TopError::Signal(signal as i32));
            }
            if is_changed && let Event::Key(key) = event::read().map_err(TopError::Terminal)? {
                match page.press(key) {
                    Wish::Nothing => {}
                    Wish::End => return Ok(()),
                    Wish::Wake(order) => {
                        let _ = orders.send(order);
                    }
                }
            }
            for told in news.try_iter() {
                page.take(told);
                is_changed = true;
            }
        }
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        // Where the terminal has hung up there is nothing to give back.
        let _ = ratatui::try_restore();
    }
}
