//! The page on the screen. Draws what [`TopPage`] holds, and changes nothing.
//!
//! On a low screen, down to 40 by 10, there is room for the chosen panel alone.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Borders, List, ListItem, ListState, Paragraph, Sparkline, Wrap};

use super::page::{Panel, TopPage};
use super::text;

/// The height from which all panels are shown.
const ALL_PANELS_LINES: u16 = 24;
/// The height from which there is room for the requests of the last minutes.
const SPARKLINE_LINES: u16 = 16;
/// The width from which each line of the header fits.
const WIDE_COLUMNS: u16 = 110;
const KEYS: &str = " q quit  tab panel  arrows scroll  w wake  f failed ";

pub fn draw(frame: &mut Frame, page: &TopPage) {
    let area = frame.area();
    let has_sparkline = area.height >= SPARKLINE_LINES;
    let figures_lines = if area.width >= WIDE_COLUMNS { 2 } else { 4 };
    let [header, sparkline, panels, footer] = Layout::vertical([
        Constraint::Length(figures_lines),
        Constraint::Length(if has_sparkline { 3 } else { 0 }),
        Constraint::Min(3),
        Constraint::Length(1),
    ])
    .areas(area);
    draw_header(frame, page, header);
    if has_sparkline {
        draw_requests(frame, page, sparkline);
    }
    if area.height >= ALL_PANELS_LINES {
        let credentials = page.lines_count(Panel::Credentials).clamp(1, 8) as u16 + 3;
        let streams = page.lines_count(Panel::Streams).clamp(1, 8) as u16 + 3;
        let heights = [Constraint::Max(credentials), Constraint::Max(streams), Constraint::Min(5)];
        let areas: [Rect; 3] = Layout::vertical(heights).areas(panels);
        Panel::ALL.iter().zip(areas).for_each(|(panel, area)| draw_panel(frame, page, *panel, area));
    } else {
        draw_panel(frame, page, page.panel, panels);
    }
    let note = page.note.as_deref().unwrap_or_default();
    frame.render_widget(Line::styled(format!("{KEYS} {note}"), Style::new().add_modifier(Modifier::DIM)), footer);
}

fn draw_header(frame: &mut Frame, page: &TopPage, area: Rect) {
    let mut lines = Vec::new();
    if let Some(report) = &page.report {
        lines.push(Line::styled(text::title(report), Style::new().add_modifier(Modifier::BOLD)));
    }
    if let Some(failure) = &page.failure {
        let told = format!("{}: {failure}; asking again", page.base_url);
        lines.insert(0, Line::styled(told, Style::new().fg(Color::Red)));
    }
    match &page.report {
        // On a narrow screen the end of the text is cut off: the figures are worth more than the addresses.
        Some(report) if area.width < WIDE_COLUMNS => {
            lines.insert(lines.len() - 1, Line::raw(text::figures(report)));
        }
        Some(report) => lines.push(Line::raw(text::figures(report))),
        None if page.failure.is_none() => lines.push(Line::raw(format!("asking {}", page.base_url))),
        None => {}
    }
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: true }), area);
}

/// Draws the requests of the last minutes, the newest at the right.
fn draw_requests(frame: &mut Frame, page: &TopPage, area: Rect) {
    let Some(history) = page.report.as_ref().map(|report| &report.history) else { return };
    let begin = history.requests.len().saturating_sub(usize::from(area.width));
    let bars: Vec<Option<u64>> =
        history.requests[begin..].iter().map(|requests| requests.map(|requests| requests.max(0.0) as u64)).collect();
    let title = format!(" requests in {} s ", history.step);
    let block = Block::new().borders(Borders::TOP).title(title);
    frame.render_widget(Sparkline::default().block(block).data(bars).style(Style::new().fg(Color::Cyan)), area);
}

fn draw_panel(frame: &mut Frame, page: &TopPage, panel: Panel, area: Rect) {
    let report = page.report.as_ref();
    let (name, head, lines): (String, &str, Vec<(String, Color)>) = match panel {
        Panel::Credentials => {
            let lines = report.into_iter().flat_map(|report| &report.credentials);
            let colour = |state: &str| if state == "up" { Color::Reset } else { Color::Yellow };
            let lines = lines.map(|credential| (text::credential(credential), colour(&credential.state))).collect();
            ("credentials".into(), text::CREDENTIALS_HEAD, lines)
        }
        Panel::Streams => {
            let lines = report.into_iter().flat_map(|report| &report.streams);
            let all = report.map_or(0, |report| report.streams_count);
            (
                format!("streams: {all}"),
                text::STREAMS_HEAD,
                lines.map(|line| (text::stream(line), Color::Reset)).collect(),
            )
        }
        Panel::Exchanges => {
            let colour = |has_failed: bool| if has_failed { Color::Red } else { Color::Reset };
            let lines = page.exchanges().map(|line| (text::exchange(line), colour(line.has_failed()))).collect();
            let name = if page.has_failed_only { "last exchanges: failed" } else { "last exchanges" };
            (name.into(), text::EXCHANGES_HEAD, lines)
        }
    };
    let is_chosen = page.panel == panel;
    let border = if is_chosen { Style::new().fg(Color::Cyan) } else { Style::new().add_modifier(Modifier::DIM) };
    let block = Block::new().borders(Borders::TOP).title(format!(" {name} ")).border_style(border);
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let [head_area, list_area] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(inner);
    frame.render_widget(Line::styled(head, Style::new().add_modifier(Modifier::DIM)), head_area);
    let items = lines.into_iter().map(|(line, colour)| ListItem::new(line).style(Style::new().fg(colour)));
    let highlight = if is_chosen { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() };
    let mut chosen = ListState::default().with_selected(page.chosen(panel));
    frame.render_stateful_widget(List::new(items).highlight_style(highlight), list_area, &mut chosen);
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::state::GatewayReport;
    use super::*;

    fn drawn(page: &TopPage, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a screen");
        terminal.draw(|frame| draw(frame, page)).expect("drawn");
        let buffer = terminal.backend().buffer();
        buffer
            .content()
            .chunks(usize::from(width))
            .map(|line| line.iter().map(|cell| cell.symbol()).collect::<String>() + "\n")
            .collect()
    }

    fn page() -> TopPage {
        let state = br#"{"version":"0.1.0","credentials":[{"name":"team-a","state":"up"}],"streams":[{"model":"m-1"}],
            "exchanges":[{"path":"/v1/messages","status":200}],"history":{"step":5,"requests":[1,null,9]}}"#;
        let mut page = TopPage::of("http://127.0.0.1:8900".into());
        page.renew(GatewayReport::parse(state).expect("a state"));
        page
    }

    #[test]
    fn a_large_screen_has_all_panels_and_a_small_one_the_chosen_one() {
        let large = drawn(&page(), 120, 40);
        for part in ["flow-uring 0.1.0", "team-a", "m-1", "/v1/messages", "requests in 5 s", "q quit"] {
            assert!(large.contains(part), "{part}\n{large}");
        }
        let mut page = page();
        let small = drawn(&page, 40, 10);
        assert!(small.contains("team-a") && !small.contains("m-1") && small.contains("q quit"), "{small}");
        page.panel = Panel::Streams;
        assert!(drawn(&page, 40, 10).contains("m-1"));
    }

    #[test]
    fn no_screen_is_too_small_to_be_drawn() {
        let page = page();
        for (width, height) in [(1, 1), (2, 3), (10, 5), (39, 9), (300, 2)] {
            drawn(&page, width, height);
        }
    }

    #[test]
    fn a_gateway_that_is_lost_is_told_above_what_was_known() {
        let mut page = page();
        page.note_failure("no answer: refused".into());
        let screen = drawn(&page, 100, 30);
        assert!(
            screen.contains("http://127.0.0.1:8900: no answer: refused; asking again") && screen.contains("team-a")
        );
    }
}
