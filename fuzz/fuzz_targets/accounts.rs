//! What the upstream answers when it is asked for a token, a quota or prices, and a file of prices with comments: no
//! answer costs more than it may, none tells what is not in it, and no error tells what is.

#![no_main]

use std::time::{Duration, Instant};

use flow_uring::fuzz::accounts::{FlowToken, PriceTable, PricesFault, QuotaAnswer, TokenCounts, strip_comments};
use flow_uring_fuzz::comments::without_comments;
use flow_uring_fuzz::input::expanded;
use flow_uring_fuzz::members::{Member, members};
use libfuzzer_sys::fuzz_target;

const TOKEN_NAMES: [&str; 3] = ["access_token", "accessToken", "token"];
const USED_NAMES: [&str; 3] = ["consumed_usd", "requests_used", "used"];
const LIMIT_NAMES: [&str; 4] = ["limit", "effective_limit", "budget_limit", "individual_budget"];
/// Lines of an error, with the first and the one that counts the others.
const ERROR_LINES_MAX: usize = 22;
/// Bytes of one of them: a name of 80 characters twice, escaped, and what was expected.
const LINE_BYTES_MAX: usize = 4096;

fuzz_target!(|data: &[u8]| {
    let input = expanded(data);
    let text = std::str::from_utf8(&input).ok();
    check_token(&input, text);
    check_quota(&input, text);
    check_prices(&input);
    if let Some(text) = text {
        check_comments(text);
    }
});

/// The members of the object that an answer is about: it is wrapped in `data` up to three times.
fn unwrapped<'a>(text: &'a str, own: &[&str]) -> Option<Vec<(String, Member<'a>)>> {
    let mut level = named(text)?;
    for _ in 0..3 {
        let is_own = level.iter().any(|(name, _)| own.contains(&&**name));
        let inner = last(&level, "data").filter(|_| !is_own).and_then(|data| named(data.value));
        let Some(inner) = inner else { break };
        level = inner;
    }
    Some(level)
}

/// The members of an object, unless one has a name that is no text.
fn named(text: &str) -> Option<Vec<(String, Member<'_>)>> {
    members(text)?.into_iter().map(|member| Some((member.decoded_name()?, member))).collect()
}

fn last<'a>(members: &[(String, Member<'a>)], name: &str) -> Option<Member<'a>> {
    members.iter().rfind(|(own, _)| own == name).map(|(_, member)| *member).filter(|member| member.value != "null")
}

fn check_token(body: &[u8], text: Option<&str>) {
    let now = Instant::now();
    let token = FlowToken::read(body, now);
    let expected = text.and_then(|text| unwrapped(text, &TOKEN_NAMES)).and_then(|object| {
        let values = TOKEN_NAMES.iter().filter_map(|name| last(&object, name)?.written_text());
        let can_be_sent = |token: &&str| {
            (1..=8 * 1024).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
        };
        values.filter(can_be_sent).map(str::to_owned).next()
    });
    assert_eq!(token.as_ref().map(|token| token.text.expose()), expected.as_deref());
    if let Some(token) = token {
        let lifetime = token.until - now;
        assert!(lifetime <= Duration::from_secs(24 * 3600), "{lifetime:?}");
        assert!(!format!("{token:?}").contains(token.text.expose()) || token.text.expose().len() < 8);
    }
}

fn check_quota(body: &[u8], text: Option<&str>) {
    let Some(answer) = QuotaAnswer::read(body) else { return };
    let own = [&USED_NAMES[..], &LIMIT_NAMES].concat();
    let object = text.and_then(|text| unwrapped(text, &own)).expect("an object");
    let first = |names: &[&str]| names.iter().find_map(|name| number(last(&object, name)?.value));
    assert_eq!(answer.used, first(&USED_NAMES).filter(|used| *used >= 0.0));
    assert_eq!(answer.limit, first(&LIMIT_NAMES).filter(|limit| *limit > 0.0));
    let status = last(&object, "status").and_then(|status| status.text());
    assert_eq!(answer.is_blocked, status.map(|status| status.trim().to_ascii_lowercase().starts_with("blocked")));
    assert!(answer.user.is_none_or(|user| (1..=256).contains(&user.len()) && !user.chars().any(char::is_control)));
    assert!(answer.renewal.is_none_or(|renewal| renewal.0 <= 253_402_300_799), "after the year 9999");
}

/// A number, also one in quotes.
fn number(value: &str) -> Option<f64> {
    let inside = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
    inside.trim().parse().ok().filter(|number: &f64| number.is_finite())
}

fn check_prices(bytes: &[u8]) {
    match PriceTable::from_model_info(bytes) {
        Ok(table) => check_table(&table, bytes),
        Err(fault) => check_fault(&fault),
    }
    match PriceTable::parse(bytes) {
        Ok(loaded) => {
            assert!(loaded.table.len() <= loaded.entries);
            check_table(&loaded.table, bytes);
            check_file(bytes, &loaded.table);
        }
        Err(fault) => check_fault(&fault),
    }
}

/// More tokens never cost less, and no count is too much.
fn check_table(table: &PriceTable, bytes: &[u8]) {
    assert!(table.is_empty() || bytes.len() > 20);
    let counts = |input, output| TokenCounts { input, output, ..TokenCounts::default() };
    for model in ["m", "gpt-4o", "x/m"] {
        assert_eq!(table.has(model), table.cost(model, &counts(0, 0)).is_some(), "what costs nothing");
        let _ = table.cost(model, &counts(u64::MAX, u64::MAX));
    }
}

/// A model with a plain price costs it.
fn check_file(bytes: &[u8], table: &PriceTable) {
    let Some(text) = without_comments(bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes)) else {
        panic!("comments that do not end are read");
    };
    let text = String::from_utf8(text).expect("text");
    let models = named(&text).expect("an object");
    for (name, model) in models.iter().filter(|(name, _)| name != "sample_spec") {
        let Some(fields) = named(model.value) else { continue };
        let is_plain = |name: &str| name == "input_cost_per_token" || !name.contains("cost") && !name.contains("tier");
        let is_last = last(&models, name).is_some_and(|last| std::ptr::eq(last.value, model.value));
        let others = ["alias_of", "litellm_provider"];
        let all_plain = fields.iter().all(|(name, _)| is_plain(name) && !others.contains(&&**name));
        let price = last(&fields, "input_cost_per_token").and_then(|price| number(price.value));
        if let (true, true, Some(price)) = (is_last, all_plain, price) {
            let cost = table.cost(name, &TokenCounts { input: 1_000_000, ..TokenCounts::default() });
            let cost = cost.expect("it has a price").as_dollars();
            let expected = price * 1_000_000.0;
            assert!((cost - expected).abs() <= expected * 1e-6 + 1e-5, "{cost} dollars, not {expected}");
        }
    }
}

/// An error is a few lines of printable text.
fn check_fault(fault: &PricesFault) {
    let told = fault.to_string();
    assert!(told.lines().count() <= ERROR_LINES_MAX);
    assert!(told.lines().all(|line| line.len() <= LINE_BYTES_MAX && !line.chars().any(char::is_control)));
}

fn check_comments(text: &str) {
    let expected = without_comments(text.as_bytes());
    let stripped = strip_comments(text);
    assert_eq!(stripped.as_ref().ok().map(|stripped| stripped.as_bytes()), expected.as_deref());
    if let Ok(stripped) = &stripped {
        // In a file of prices they are comments just so.
        let (with, without) = (PriceTable::parse(text.as_bytes()), PriceTable::parse(stripped.as_bytes()));
        match (with, without) {
            (Ok(with), Ok(without)) => assert!(with.table == without.table),
            (Err(with), Err(without)) => assert_eq!(with.to_string(), without.to_string()),
            (with, without) => panic!("{with:?} and {without:?}"),
        }
    } else if let Err(fault) = &stripped {
        assert!(fault.to_string().len() < 200);
    }
}
