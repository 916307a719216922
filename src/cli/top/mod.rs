//! `flow-uring top`: the live page of a gateway, for a terminal.
//!
//! A thread asks the gateway once a second (`feed`) for its state (`state`), so that a gateway that does not answer
//! holds up no key. The `page` is what the user looks at and chooses; the `view` draws it; `display` owns the terminal
//! and gives it back in each of the ways in which a program ends. Where the output is no terminal, one frame is printed
//! as `text`.

mod display;
mod error;
mod feed;
mod page;
mod place;
mod state;
mod text;
mod view;

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;

use self::display::Display;
use self::feed::{Feed, News};
use self::page::TopPage;
use self::place::AdminPlace;

pub use error::TopError;

/// The command's words, and the settings that it needs.
#[derive(Debug)]
pub struct TopQuestion {
    /// The address of the admin pages as it was written, else as the settings say; `None`: they are off.
    pub url: Option<String>,
    pub token_file: Option<PathBuf>,
    pub is_once: bool,
}

/// Shows the page until the user or a signal ends it. Returns the text of one frame where that is wanted.
///
/// # Errors
/// The words are wrong, the terminal cannot be used, or, for one frame, the gateway does not answer.
pub fn run(question: TopQuestion) -> Result<Option<String>, TopError> {
    let place = AdminPlace::parse(question.url.as_deref().ok_or(TopError::AdminOff)?)?;
    let feed = Feed::new(place, question.token_file.as_deref())?;
    if question.is_once || !io::stdout().is_terminal() {
        return Ok(Some(text::of(&feed.state().map_err(TopError::Feed)?)));
    }
    let (news, received) = mpsc::sync_channel(1);
    let (orders, taken) = mpsc::channel();
    let mut page = TopPage::of(feed.base_url());
    // It ends with the process, in the middle of a request or not.
    let asking = thread::Builder::new().name("flow-feed".into()).spawn(move || feed.go_on(&news, &taken));
    asking.map_err(TopError::Terminal)?;
    let display = Display::open().map_err(TopError::Terminal)?;
    display.show(&mut page, &received, &orders)?;
    Ok(None)
}

impl TopPage {
    /// Takes what the feed tells.
    fn take(&mut self, news: News) {
        match news {
            News::State(state) => self.renew(*state),
            News::Failure(error) => self.note_failure(error.to_string()),
            News::Woken { name, is_woken } => {
                self.note(if is_woken { format!("woken: {name}") } else { format!("{name} does not rest") })
            }
            News::NotWoken { name, error } => self.note(format!("{name} is not woken: {error}")),
        }
    }
}
