//! The report for programs: JSON and CSV, whose names are documented and stay.

use super::grouped::UsageReport;
use super::moment;
use crate::usage::totals::{COUNTS, UsageSums};

/// The names of the counts, in the order of [`UsageSums::counts`].
pub const FIELDS: [&str; COUNTS] = [
    "requests",
    "answers_without_usage",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "estimated_input_tokens",
    "estimated_output_tokens",
    "reported_cost_usd",
    "estimated_cost_usd",
];

/// Returns one object, with a line for each row.
pub fn json(report: &UsageReport) -> String {
    let names: Vec<String> = report.by.iter().map(|dimension| quoted(dimension.name())).collect();
    let rows: Vec<String> = report.groups.iter().map(|(group, sums)| object(&names, group, sums)).collect();
    let rows = if rows.is_empty() { String::new() } else { format!("\n{}\n", rows.join(",\n")) };
    format!(
        "{{\"since\":{since},\"by\":[{by}],\"rows\":[{rows}],\n\"total\":{total}}}\n",
        since = quoted(&moment::hour(report.since)),
        by = names.join(","),
        total = object(&[], &[], &report.total)
    )
}

fn object(names: &[String], group: &[String], sums: &UsageSums) -> String {
    let texts = names.iter().zip(group).map(|(name, text)| format!("{name}:{}", quoted(text)));
    let numbers = FIELDS.iter().zip(numbers(sums)).map(|(name, number)| format!("\"{name}\":{number}"));
    format!("{{{}}}", texts.chain(numbers).collect::<Vec<_>>().join(","))
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Returns a line with the names, and one for each row (RFC 4180, with the line ends of this system).
pub fn csv(report: &UsageReport) -> String {
    let names = report.by.iter().map(|dimension| dimension.name()).chain(FIELDS);
    let mut text = names.collect::<Vec<_>>().join(",") + "\n";
    for (group, sums) in &report.groups {
        let cells: Vec<String> = group.iter().map(|cell| in_csv(cell)).chain(numbers(sums)).collect();
        text += &(cells.join(",") + "\n");
    }
    text
}

fn in_csv(cell: &str) -> String {
    // Names of models come from clients, and a spreadsheet takes what begins so for a formula (OWASP, CSV injection).
    let mark = if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) { "'" } else { "" };
    // RFC 4180 §2, rules 5 to 7.
    if cell.contains([',', '"', '\r', '\n']) {
        format!("\"{mark}{}\"", cell.replace('"', "\"\""))
    } else {
        format!("{mark}{cell}")
    }
}

/// The counts, and the costs in dollars, to the last digit.
fn numbers(sums: &UsageSums) -> impl Iterator<Item = String> {
    let counts = sums.counts().into_iter().take(COUNTS - 2).map(|count| count.to_string());
    counts.chain([sums.reported_cost, sums.estimated_cost].map(|cost| cost.to_string()))
}
