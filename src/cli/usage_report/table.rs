//! The report for people: a table with a line of totals.
//!
//! What was estimated has columns of its own, marked with `~`, which are left out where there is nothing in them.

use crate::cli::shown_text::ShownText;
use crate::usage::cost::Usd;
use crate::usage::report::grouped::UsageReport;
use crate::usage::report::moment;
use crate::usage::totals::UsageSums;

/// Stands for an empty name: no key, no credential, no model.
const NONE: &str = "-";

/// A column of numbers.
struct NumberColumn {
    title: &'static str,
    /// It is shown even where it is empty.
    is_always_shown: bool,
    text: fn(&UsageSums) -> Option<String>,
}

const NUMBER_COLUMNS: [NumberColumn; 11] = [
    NumberColumn { title: "requests", is_always_shown: true, text: |sums| thousands(sums.requests) },
    NumberColumn { title: "input", is_always_shown: true, text: |sums| thousands(sums.tokens.input) },
    NumberColumn { title: "cache read", is_always_shown: false, text: |sums| thousands(sums.tokens.cache_read) },
    NumberColumn { title: "cache write", is_always_shown: false, text: |sums| thousands(sums.tokens.cache_write) },
    NumberColumn { title: "output", is_always_shown: true, text: |sums| thousands(sums.tokens.output) },
    NumberColumn { title: "reasoning", is_always_shown: false, text: |sums| thousands(sums.tokens.reasoning) },
    NumberColumn { title: "cost", is_always_shown: true, text: |sums| dollars(sums.reported_cost, "$") },
    NumberColumn { title: "no usage", is_always_shown: false, text: |sums| thousands(sums.without_usage) },
    NumberColumn { title: "~input", is_always_shown: false, text: |sums| thousands(sums.estimated.input) },
    NumberColumn { title: "~output", is_always_shown: false, text: |sums| thousands(sums.estimated.output) },
    NumberColumn { title: "~cost", is_always_shown: false, text: |sums| dollars(sums.estimated_cost, "~$") },
];

/// Returns the table.
pub fn of(report: &UsageReport) -> String {
    let since = moment::hour(report.since);
    if report.groups.is_empty() {
        return format!("no usage since {since}\n");
    }
    let columns: Vec<&NumberColumn> = NUMBER_COLUMNS
        .iter()
        .filter(|column| column.is_always_shown || (column.text)(&report.total).is_some())
        .collect();
    let numbers =
        |sums: &UsageSums| columns.iter().map(|column| (column.text)(sums).unwrap_or("0".into())).collect::<Vec<_>>();
    let names = report.by.iter().map(|dimension| dimension.name().to_owned());
    let mut lines = vec![names.chain(columns.iter().map(|column| column.title.to_owned())).collect::<Vec<_>>()];
    let rows = report.groups.iter();
    lines.extend(rows.map(|(group, sums)| group.iter().map(|text| shown(text)).chain(numbers(sums)).collect()));
    let mut label = vec![String::new(); report.by.len()];
    label[0] = "total".into();
    label.extend(numbers(&report.total));
    lines.push(label);
    format!("since {since}\n{}", aligned(&lines, report.by.len()))
}

/// Names to the left, numbers to the right, two blanks between columns.
fn aligned(lines: &[Vec<String>], names_count: usize) -> String {
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let cells = line.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
            if column < names_count { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

/// A name comes from requests and answers: what would steer a terminal is written out.
fn shown(name: &str) -> String {
    if name.is_empty() { NONE.into() } else { ShownText(name).to_string() }
}

/// A count with commas between its thousands; `None` for 0.
fn thousands(count: u64) -> Option<String> {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    (count > 0).then_some(text)
}

/// An amount to a hundredth of a cent, rounded; less is told as less. `None` for nothing.
fn dollars(cost: Usd, sign: &str) -> Option<String> {
    /// A hundredth of a cent.
    const STEP_UNITS: u64 = 100_000_000;
    const STEPS_PER_DOLLAR: u64 = 10_000;
    let steps = cost.units() / STEP_UNITS + u64::from(cost.units() % STEP_UNITS >= STEP_UNITS / 2);
    if cost == Usd::default() {
        return None;
    }
    if steps == 0 {
        return Some(format!("<{sign}0.0001"));
    }
    let whole = thousands(steps / STEPS_PER_DOLLAR).unwrap_or("0".into());
    Some(format!("{sign}{whole}.{:04}", steps % STEPS_PER_DOLLAR))
}
