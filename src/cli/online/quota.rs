//! The quotas of the credentials' users, asked once as a gateway asks, and told one line a user.

use std::rc::Rc;

use crate::cli::check::CheckReport;
use crate::cli::shown_text::ShownText;
use crate::credentials::quota::groups::QuotaGroup;
use crate::credentials::quota::moment::UnixSecond;
use crate::credentials::quota::record::{Quota, QuotaKind, QuotaMoment};
use crate::credentials::{CredentialId, Credentials};
use crate::proxy::quota_question::inquiry::{Inquired, Inquiry};
use crate::upstream::Connector;

/// The lines about quotas.
#[derive(Debug, Default)]
pub struct QuotaLines {
    users: Vec<String>,
    /// Blocked users, and credentials whose quotas were not told: a gateway serves all the same.
    warnings: Vec<String>,
}

impl QuotaLines {
    /// Asks for each identity, for so many at once.
    pub async fn ask(
        connector: &Rc<Connector>,
        authority: &str,
        credentials: &Rc<Credentials>,
        at_once_max: usize,
    ) -> Self {
        let mut report = QuotaLines::default();
        let begin = |credential: &CredentialId| {
            let (connector, authority, credentials) = (connector.clone(), authority.to_owned(), credentials.clone());
            let credential = *credential;
            let asked = monoio::spawn(async move {
                let (connector, authority, credentials) = (&*connector, &*authority, &*credentials);
                Inquiry { connector, authority, credentials, credential }.ask().await
            });
            (credential, asked)
        };
        let mut inquired = Vec::new();
        for batch in credentials.identities().chunks(at_once_max) {
            let running: Vec<_> = batch.iter().map(begin).collect();
            for (credential, asked) in running {
                inquired.push((credential, asked.await));
            }
        }
        for (credential, Inquired { answers, failure }) in inquired {
            if answers.budget.is_some() || answers.requests.is_some() {
                credentials.note_quotas(credential, &answers, QuotaMoment::now());
            }
            let name = &credentials.entry(credential).name;
            report
                .warnings
                .extend(failure.map(|fault| format!("the quotas of {name} were not told, or not all: {fault}")));
        }
        let now = QuotaMoment::now().unix;
        for group in credentials.quota_groups() {
            let line = line(credentials, &group, now);
            if group.is_blocked(now) { &mut report.warnings } else { &mut report.users }.push(line);
        }
        report
    }

    pub fn add_to(self, report: &mut CheckReport) {
        let QuotaLines { users, warnings } = self;
        report.found.push("quotas of the credentials' users (--quota flow):".into());
        report.found.extend(users.iter().map(|line| format!("  {line}")));
        report.warnings.extend(warnings);
    }
}

fn line(credentials: &Credentials, group: &QuotaGroup, now: UnixSecond) -> String {
    let names: Vec<&str> = group.credentials.iter().map(|id| &*credentials.entry(*id).name).collect();
    let quotas: Vec<String> = group.quotas().map(|(kind, quota)| told(kind, quota, now)).collect();
    ShownText(&format!("{} ({}): {}", group.name, names.join(", "), quotas.join("; "))).to_string()
}

fn told(kind: QuotaKind, quota: &Quota, now: UnixSecond) -> String {
    let amount = |amount: f64| match kind {
        QuotaKind::Budget => format!("${amount:.2}"),
        QuotaKind::Requests => format!("{amount:.0}"),
    };
    let used = quota.used.map_or("an unknown part".into(), amount);
    let limit = quota.limit.map_or(", no limit".into(), |limit| format!(" of {}", amount(limit)));
    let mut text = format!("{} {used}{limit}", kind.as_str());
    if quota.is_blocked(now) {
        text.push_str(", blocked");
    }
    let day = |moment: Option<UnixSecond>| moment.and_then(UnixSecond::day);
    text.extend(day(quota.renewal).map(|day| format!(", renewed on {day}")));
    text.extend(day(quota.exhaustion(now)).map(|day| format!(", runs out on {day}")));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::from_json;
    use crate::credentials::quota::answer::QuotaAnswer;
    use crate::credentials::quota::record::QuotaAnswers;

    #[test]
    fn a_line_tells_whose_quotas_they_are_and_how_they_stand() {
        let secrets = r#"[{"name":"a","clientId":"a","clientSecret":"hunter2","tenant":"t"},
                          {"name":"b","clientId":"b","clientSecret":"hunter2","tenant":"t"}]"#;
        let credentials = from_json(secrets).expect("valid").credentials;
        let at = QuotaMoment::now();
        for id in credentials.identities() {
            let budget = QuotaAnswer {
                user: Some("u".into()),
                used: Some(12.345),
                limit: Some(100.0),
                is_blocked: Some(true),
                renewal: Some(UnixSecond(4_070_908_800)),
            };
            let requests = QuotaAnswer { used: Some(1234.0), ..QuotaAnswer::default() };
            credentials.note_quotas(id, &QuotaAnswers { budget: Some(budget), requests: Some(requests) }, at);
        }
        let groups = credentials.quota_groups();
        assert_eq!(
            line(&credentials, &groups[0], at.unix),
            "u (a, b): budget $12.35 of $100.00, blocked, renewed on 2099-01-01; requests 1234, no limit"
        );
    }
}
