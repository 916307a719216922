//! The content of the page with the choices of the user, and the changes that keys make. Pure.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::feed::WakeOrder;
use super::state::{ExchangeReport, GatewayReport};

/// The lines by which a page key moves.
const PAGE_LINES: usize = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Panel {
    Credentials,
    Streams,
    Exchanges,
}

impl Panel {
    pub const ALL: [Panel; 3] = [Panel::Credentials, Panel::Streams, Panel::Exchanges];

    fn beside(self, steps: usize) -> Panel {
        Panel::ALL[(self as usize + steps) % Panel::ALL.len()]
    }
}

/// A demand of a key that others carry out.
#[derive(Debug, PartialEq, Eq)]
pub enum Wish {
    Nothing,
    End,
    Wake(WakeOrder),
}

#[derive(Debug)]
pub struct TopPage {
    pub base_url: String,
    /// The state that was told last; `None`: none yet.
    pub report: Option<GatewayReport>,
    /// The reason why it is not of now.
    pub failure: Option<String>,
    /// The outcome of the last order.
    pub note: Option<String>,
    pub panel: Panel,
    pub has_failed_only: bool,
    /// The line that is chosen in each panel.
    chosen: [usize; Panel::ALL.len()],
}

impl TopPage {
    pub fn of(base_url: String) -> Self {
        TopPage {
            base_url,
            report: None,
            failure: None,
            note: None,
            panel: Panel::Credentials,
            has_failed_only: false,
            chosen: [0; Panel::ALL.len()],
        }
    }

    pub fn renew(&mut self, report: GatewayReport) {
        self.report = Some(report);
        self.failure = None;
        for panel in Panel::ALL {
            self.chosen[panel as usize] = self.chosen(panel).unwrap_or(0);
        }
    }

    pub fn note_failure(&mut self, failure: String) {
        self.failure = Some(failure);
    }

    pub fn note(&mut self, note: String) {
        self.note = Some(note);
    }

    /// Returns the exchanges that are shown.
    pub fn exchanges(&self) -> impl Iterator<Item = &ExchangeReport> {
        let all = self.report.iter().flat_map(|report| &report.exchanges);
        all.filter(|exchange| !self.has_failed_only || exchange.has_failed())
    }

    pub fn lines_count(&self, panel: Panel) -> usize {
        let Some(report) = &self.report else { return 0 };
        match panel {
            Panel::Credentials => report.credentials.len(),
            Panel::Streams => report.streams.len(),
            Panel::Exchanges => self.exchanges().count(),
        }
    }

    /// Returns the chosen line of a panel, which is never beyond its last one.
    pub fn chosen(&self, panel: Panel) -> Option<usize> {
        let last = self.lines_count(panel).checked_sub(1)?;
        Some(self.chosen[panel as usize].min(last))
    }

    /// Does what a key stands for.
    pub fn press(&mut self, key: KeyEvent) -> Wish {
        if key.kind == KeyEventKind::Release {
            return Wish::Nothing;
        }
        match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Wish::End,
            KeyCode::Char('q') | KeyCode::Esc => return Wish::End,
            KeyCode::Tab | KeyCode::Right => self.panel = self.panel.beside(1),
            KeyCode::BackTab | KeyCode::Left => self.panel = self.panel.beside(Panel::ALL.len() - 1),
            KeyCode::Up | KeyCode::Char('k') => self.choose(|line| line.saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => self.choose(|line| line + 1),
            KeyCode::PageUp => self.choose(|line| line.saturating_sub(PAGE_LINES)),
            KeyCode::PageDown => self.choose(|line| line + PAGE_LINES),
            KeyCode::Home => self.choose(|_| 0),
            KeyCode::End => self.choose(|_| usize::MAX),
            KeyCode::Char('f') => {
                self.has_failed_only = !self.has_failed_only;
                self.panel = Panel::Exchanges;
            }
            KeyCode::Char('w') => return self.wake(),
            _ => {}
        }
        Wish::Nothing
    }

    fn choose(&mut self, line: impl Fn(usize) -> usize) {
        self.chosen[self.panel as usize] = line(self.chosen(self.panel).unwrap_or(0));
        self.chosen[self.panel as usize] = self.chosen(self.panel).unwrap_or(0);
    }

    fn wake(&mut self) -> Wish {
        let chosen = self.chosen(Panel::Credentials);
        let names = self.report.as_ref().map(|report| &report.credentials);
        let Some(credential) = names.zip(chosen).and_then(|(credentials, line)| credentials.get(line)) else {
            return Wish::Nothing;
        };
        self.panel = Panel::Credentials;
        Wish::Wake(WakeOrder(credential.name.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> TopPage {
        let mut page = TopPage::of("http://127.0.0.1:8900".into());
        let state =
            br#"{"credentials":[{"name":"a"},{"name":"b"}],"exchanges":[{"status":200,"end":"ok"},{"status":500,
            "end":"ok"},{"status":200,"end":"upstream_closed"},{"end":"timeout"}]}"#;
        page.renew(GatewayReport::parse(state).expect("a state"));
        page
    }

    fn press(page: &mut TopPage, codes: &[KeyCode]) -> Vec<Wish> {
        codes.iter().map(|code| page.press(KeyEvent::new(*code, KeyModifiers::NONE))).collect()
    }

    #[test]
    fn a_line_is_chosen_within_its_panel() {
        for (codes, chosen) in [
            (&[KeyCode::Down][..], Some(1)),
            (&[KeyCode::Down, KeyCode::Down, KeyCode::Down], Some(1)),
            (&[KeyCode::End, KeyCode::Up], Some(0)),
            (&[KeyCode::PageDown], Some(1)),
            (&[KeyCode::End, KeyCode::Home], Some(0)),
            (&[KeyCode::Tab], None),
            (&[KeyCode::BackTab, KeyCode::End], Some(3)),
            (&[KeyCode::Left, KeyCode::End, KeyCode::Char('f')], Some(2)),
        ] {
            let mut page = page();
            press(&mut page, codes);
            assert_eq!(page.chosen(page.panel), chosen, "{codes:?}");
        }
    }

    #[test]
    fn a_choice_beyond_a_shorter_list_is_its_last_line() {
        let mut page = page();
        press(&mut page, &[KeyCode::End]);
        page.renew(GatewayReport::parse(br#"{"credentials":[{"name":"a"}]}"#).expect("a state"));
        assert_eq!(page.chosen(Panel::Credentials), Some(0));
        page.renew(GatewayReport::default());
        assert_eq!(page.chosen(Panel::Credentials), None);
        assert_eq!(press(&mut page, &[KeyCode::Char('w')]), [Wish::Nothing]);
    }

    #[test]
    fn keys_end_wake_and_filter() {
        for code in [KeyCode::Char('q'), KeyCode::Esc] {
            assert_eq!(press(&mut page(), &[code]), [Wish::End]);
        }
        assert_eq!(page().press(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)), Wish::End);
        let mut page = page();
        let wishes = press(&mut page, &[KeyCode::Down, KeyCode::Tab, KeyCode::Char('w')]);
        assert_eq!(wishes[2], Wish::Wake(WakeOrder("b".into())));
        press(&mut page, &[KeyCode::Char('f')]);
        assert_eq!(page.exchanges().count(), 3);
    }
}
