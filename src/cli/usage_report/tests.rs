use super::*;
use crate::usage::cost::Usd;
use crate::usage::store::UsageRow;
use crate::usage::tokens::{EstimatedTokens, TokenCounts};
use crate::usage::totals::{COUNTS, UsageKey, UsageSums};

/// 2026-11-30T07:00:00Z.
const HOUR: u64 = 498_895;

fn row(hour: u64, key: &str, model: &str, sums: UsageSums) -> UsageRow {
    let of = UsageKey { key: key.into(), credential: "team-a".into(), model: model.into() };
    UsageRow { hour: UnixHour(hour), of, sums }
}

fn reported() -> UsageSums {
    UsageSums {
        requests: 1234,
        tokens: TokenCounts { input: 1_234_567, cache_read: 900, output: 56, ..TokenCounts::default() },
        reported_cost: Usd::from_units(1_234_500_000_000),
        ..UsageSums::default()
    }
}

fn estimated() -> UsageSums {
    UsageSums {
        requests: 2,
        without_usage: 2,
        estimated: EstimatedTokens { input: 40, output: 5 },
        estimated_cost: Usd::from_units(1_000),
        ..UsageSums::default()
    }
}

fn report(by: &str, rows: &[UsageRow]) -> UsageReport {
    let mut report = UsageReport::new(UnixHour(HOUR - 24), dimension::parse_list(by).expect("dimensions"));
    rows.iter().for_each(|row| report.add(row));
    report
}

fn question(since: Option<&str>, by: Option<&str>, json: bool, csv: bool) -> Result<UsageQuestion, UsageError> {
    let args = UsageArgs { since: since.map(Into::into), by: by.map(Into::into), json, csv };
    UsageQuestion::of(&args, SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(3600 * HOUR))
}

#[test]
fn a_table_has_its_numbers_to_the_right_and_no_column_that_is_empty() {
    let rows = [row(HOUR, "", "claude", reported()), row(HOUR + 1, "alice", "claude", reported())];
    assert_eq!(
        table::of(&report("day,model", &rows)),
        "since 2026-11-29T07:00:00Z\n\
         day         model   requests      input  cache read  output     cost\n\
         2026-11-30  claude     2,468  2,469,134       1,800     112  $2.4690\n\
         total                  2,468  2,469,134       1,800     112  $2.4690\n"
    );
    assert_eq!(
        table::of(&report("key", &[&rows[..], &[row(HOUR, "\u{1b}[2J", "", estimated())]].concat())),
        "since 2026-11-29T07:00:00Z\n\
         key        requests      input  cache read  output     cost  no usage  ~input  ~output      ~cost\n\
         -             1,234  1,234,567         900      56  $1.2345         0       0        0          0\n\
         \\u{1b}[2J         2          0           0       0        0         2      40        5  <~$0.0001\n\
         alice         1,234  1,234,567         900      56  $1.2345         0       0        0          0\n\
         total         2,470  2,469,134       1,800     112  $2.4690         2      40        5  <~$0.0001\n"
    );
    assert_eq!(table::of(&report("day", &[])), "no usage since 2026-11-29T07:00:00Z\n");
}

#[test]
fn json_and_csv_have_every_count_under_its_name() {
    let sums = UsageSums::of_counts(std::array::from_fn(|index| index as u64 + 1));
    let rows = [row(HOUR, "a,\"b\"", "m", sums), row(HOUR, "", "m", UsageSums::default())];
    let report = report("month,hour,key,credential", &rows);
    let numbers = "1,2,3,4,5,6,7,8,9,0.00000000001,0.000000000011";
    assert_eq!(
        machine::csv(&report),
        format!(
            "month,hour,key,credential,{}\n\
             2026-11,2026-11-30T07:00:00Z,,team-a,0,0,0,0,0,0,0,0,0,0.0,0.0\n\
             2026-11,2026-11-30T07:00:00Z,\"a,\"\"b\"\"\",team-a,{numbers}\n",
            machine::FIELDS.join(",")
        )
    );
    let json: serde_json::Value = serde_json::from_str(&machine::json(&report)).expect("JSON");
    assert_eq!(json["since"], "2026-11-29T07:00:00Z");
    assert_eq!(json["by"], serde_json::json!(["month", "hour", "key", "credential"]));
    assert_eq!((json["rows"][1]["key"].as_str(), json["rows"][1]["requests"].as_u64()), (Some("a,\"b\""), Some(1)));
    for (index, name) in machine::FIELDS.iter().enumerate() {
        let expected = if index < COUNTS - 2 { (index + 1) as f64 } else { (index + 1) as f64 / 1e12 };
        assert_eq!(json["total"][name].as_f64(), Some(expected), "{name}");
    }
    assert_eq!(json["rows"][1].as_object().expect("an object").len(), 4 + COUNTS);
}

#[test]
fn no_name_steers_a_terminal_or_is_a_formula() {
    let rows = [row(HOUR, "", "\u{202e}m\u{2066}", reported())];
    let table = table::of(&report("model", &rows));
    assert!(table.contains("\\u{202e}m\\u{2066}"), "{table}");
    for (model, expected) in [
        ("=1+1", "'=1+1,"),
        ("+1", "'+1,"),
        ("-1", "'-1,"),
        ("@SUM(A1)", "'@SUM(A1),"),
        ("\tx", "'\tx,"),
        ("\rx", "\"'\rx\","),
        ("=\"a,b\"", "\"'=\"\"a,b\"\"\","),
        ("m=1", "m=1,"),
    ] {
        let csv = machine::csv(&report("model", &[row(HOUR, "", model, reported())]));
        let line = csv.split_once('\n').expect("two lines").1;
        assert!(line.starts_with(expected), "{line}");
    }
}

#[test]
fn an_empty_report_is_valid_json_and_csv_too() {
    let report = report("model", &[]);
    let json: serde_json::Value = serde_json::from_str(&machine::json(&report)).expect("JSON");
    assert_eq!((json["rows"].as_array().map(Vec::len), json["total"]["requests"].as_u64()), (Some(0), Some(0)));
    assert_eq!(machine::csv(&report).lines().count(), 1);
}

#[test]
fn columns_come_in_the_order_in_which_they_are_asked_for() {
    let by = |text| question(None, Some(text), false, false).map(|question| question.by).ok();
    assert_eq!(by("model,day"), Some(vec![Dimension::Model, Dimension::Day]));
    assert_eq!(by("hour, key"), Some(vec![Dimension::Hour, Dimension::Key]));
    for wrong in ["", "day,", "day,day", "Day", "year"] {
        assert_eq!(by(wrong), None, "{wrong}");
    }
}

#[test]
fn a_question_has_defaults_and_its_mistakes_are_told_without_their_values() {
    let defaults = question(None, None, false, false).expect("valid");
    let expected = UsageQuestion {
        since: UnixHour(HOUR - 7 * 24),
        by: vec![Dimension::Day, Dimension::Model],
        form: ReportForm::Table,
    };
    assert_eq!(defaults, expected);
    let told = |question: Result<UsageQuestion, UsageError>| question.expect_err("refused").to_string();
    assert!(told(question(Some("hunter2"), None, false, false)).starts_with("--since: expected 24h, 7d, 12w, a date"));
    assert!(told(question(None, Some("hunter2"), false, false)).starts_with("--by: expected some of month, day, hour"));
    assert!(told(question(None, None, true, true)).starts_with("--csv: the form is --json already"));
    for text in
        [told(question(Some("hunter2"), None, false, false)), told(question(None, Some("hunter2"), true, false))]
    {
        assert!(!text.contains("hunter2"), "{text}");
    }
}
