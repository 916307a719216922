//! The question to the upstream for the quotas of all identities (`inquiry` for one of them), as public clients of Flow
//! ask it: no specification says how.
//!
//! Asked in the background at a request that is forwarded, when the last round is old enough. Invariant: it holds no
//! request back and no drain waits for it; what cannot be read changes nothing but the count of failures.

pub mod inquiry;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use self::inquiry::{Inquired, Inquiry, InquiryError};
use crate::credentials::CredentialId;
use crate::credentials::quota::groups::QuotaNews;
use crate::credentials::quota::record::QuotaMoment;
use crate::io::{Either, Lifecycle, Phase, clock, pause, race};
use crate::observability::{Activity, Count};
use crate::proxy::resources::Resources;
use crate::proxy::resources::quota::QuotaSchedule;
use crate::proxy::snapshot::Snapshot;
use crate::upstream::Connector;

/// The longest that the question of one identity takes.
const INQUIRY_LIMIT: Duration = Duration::from_secs(10);

/// The longest that a round takes: it ends before the next one is due. That begins with those that were not asked.
const ROUND_LIMIT: Duration = Duration::from_secs(240);

/// The credentials of a user that the log names.
const NAMES_MAX: usize = 10;

/// Everything that a round needs after the request that was its reason is over.
struct Round {
    snapshot: Rc<Snapshot>,
    authority: String,
    connector: Rc<Connector>,
    lifecycle: Rc<Lifecycle>,
    activity: Arc<Activity>,
    schedule: Arc<QuotaSchedule>,
}

/// Begins a round if one is due. To be called when a request is forwarded.
pub fn ask_if_due(resources: &Resources, snapshot: &Rc<Snapshot>) {
    let Some(schedule) = &resources.quota else { return };
    if schedule.is_due(clock::now()) {
        begin(resources, snapshot, schedule);
    }
}

#[cold]
fn begin(resources: &Resources, snapshot: &Rc<Snapshot>, schedule: &Arc<QuotaSchedule>) {
    let Resources { rules, connector, lifecycle, activity, .. } = resources;
    if lifecycle.phase() != Phase::Serving || !schedule.claim(clock::now()) {
        return;
    }
    let round = Round {
        snapshot: snapshot.clone(),
        authority: rules.upstream.authority.clone(),
        connector: connector.clone(),
        lifecycle: lifecycle.clone(),
        activity: activity.clone(),
        schedule: schedule.clone(),
    };
    monoio::spawn(round.run());
}

/// The failures of a round.
#[derive(Default)]
struct RoundFailures {
    count: usize,
    /// The first one, with the name of its credential and the reason; `None` for the time limit.
    first: Option<(String, Option<InquiryError>)>,
}

impl Round {
    async fn run(self) {
        let mut failures = RoundFailures::default();
        let interrupted = race(pause(ROUND_LIMIT), self.lifecycle.reached(Phase::Draining));
        let ended = race(self.ask_each(&mut failures), interrupted).await;
        if !matches!(ended, Either::Second(Either::Second(()))) {
            self.tell(failures);
        }
    }

    /// Asks for one identity after the other: the upstream has other things to do.
    async fn ask_each(&self, failures: &mut RoundFailures) {
        let Round { snapshot, schedule, .. } = self;
        let identities = snapshot.credentials.identities();
        let first = schedule.first(identities.len());
        let places = (first..identities.len()).chain(0..first);
        for place in places {
            if Rc::strong_count(snapshot) == 1 {
                // A reload has replaced it, and no exchange needs its secrets any more.
                return schedule.hasten();
            }
            schedule.note_asked(place);
            let credential = identities[place];
            let inquiry = Inquiry {
                connector: &self.connector,
                authority: &self.authority,
                credentials: &snapshot.credentials,
                credential,
            };
            let (inquired, is_late) = match race(inquiry.ask(), pause(INQUIRY_LIMIT)).await {
                Either::First(inquired) => (inquired, false),
                Either::Second(()) => (Inquired::default(), true),
            };
            self.note(credential, &inquired);
            if inquired.failure.is_some() || is_late {
                schedule.note_failed();
                failures.count += 1;
                let name = || snapshot.name(credential).to_owned();
                failures.first.get_or_insert_with(|| (name(), inquired.failure));
            }
        }
    }

    fn note(&self, credential: CredentialId, Inquired { answers, .. }: &Inquired) {
        if answers.budget.is_none() && answers.requests.is_none() {
            return;
        }
        let begun = self.snapshot.credentials.note_quotas(credential, answers, QuotaMoment::now());
        begun.iter().for_each(|_| self.activity.counters.add(Count::Cooldowns));
    }

    /// Writes to the log what has changed.
    fn tell(&self, failures: RoundFailures) {
        for news in self.snapshot.credentials.quota_news() {
            tell_news(&self.snapshot, &news);
        }
        let is_news = self.schedule.end_round(failures.count);
        let RoundFailures { count, first } = failures;
        let Some((credential, reason)) = first else {
            if is_news {
                tracing::info!("the upstream tells all quotas again");
            }
            return;
        };
        let reason = reason.map_or_else(|| "the upstream took too long".to_owned(), |reason| reason.to_string());
        if is_news {
            tracing::warn!(credential, failed = count, reason, "the upstream was asked for quotas in vain");
        } else {
            tracing::debug!(credential, failed = count, reason, "the upstream was asked for quotas in vain again");
        }
    }
}

/// Writes to the log that a user is blocked from now on, or not any more.
fn tell_news(snapshot: &Snapshot, QuotaNews { group, is_blocked }: &QuotaNews) {
    let names: Vec<&str> = group.credentials.iter().take(NAMES_MAX).map(|id| snapshot.name(*id)).collect();
    let more = group.credentials.len() - names.len();
    let credentials = names.join(", ") + &if more > 0 { format!(" and {more} more") } else { String::new() };
    if !is_blocked {
        tracing::info!(user = group.name, credentials, "quota is not blocked any more");
        return;
    }
    let blocked = || group.quotas().filter(|(_, quota)| quota.is_blocked);
    let quotas = blocked().map(|(kind, _)| kind.as_str()).collect::<Vec<_>>().join(", ");
    let renewal = blocked().filter_map(|(_, quota)| quota.renewal).max().and_then(|renewal| renewal.day());
    tracing::warn!(
        user = group.name,
        credentials,
        quota = quotas,
        renewal = renewal.as_deref().unwrap_or("unknown"),
        "quota is blocked: its credentials cool down"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::quota::record::QuotaKind;
    use crate::credentials::{Rotations, from_json};
    use crate::io::deadline::on_a_shard;
    use crate::observability::Ledger;
    use crate::proxy::key_accounts::KeyAccounts;
    use crate::proxy::own_request::tests::answering;

    fn ok(body: &str) -> String {
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    const TOKEN: &str = r#"{"token":"t"}"#;

    fn budget(user: &str, status: &str) -> String {
        ok(&format!(r#"{{"consumed_usd":1,"limit":2,"user_id":"{user}","status":"{status}"}}"#))
    }

    /// Makes so many rounds with credentials a, b and c, and returns the first lines of the requests, and after each
    /// round the names of those that rest.
    fn rounds(count: usize, answers: Vec<String>) -> (usize, Vec<Vec<String>>, Arc<QuotaSchedule>) {
        let entry = |name: &str| format!(r#"{{"name":"{name}","clientId":"{name}","clientSecret":"s","tenant":"t"}}"#);
        let secrets = format!("[{}]", ["a", "b", "c"].map(entry).join(","));
        let credentials = Arc::new(from_json(&secrets).expect("valid").credentials);
        let schedule = Arc::new(QuotaSchedule::new(Duration::ZERO));
        let (connector, requests) = answering(answers);
        let of_rounds = schedule.clone();
        let resting = on_a_shard(async move {
            let snapshot = Rc::new(Snapshot::new(
                Arc::new(Rotations::new(credentials, None)),
                &Ledger::new(1),
                &KeyAccounts::default(),
            ));
            let connector = Rc::new(connector);
            let mut resting = Vec::new();
            for _ in 0..count {
                let round = Round {
                    snapshot: snapshot.clone(),
                    authority: "api.example".to_owned(),
                    connector: connector.clone(),
                    lifecycle: Rc::default(),
                    activity: Arc::default(),
                    schedule: of_rounds.clone(),
                };
                round.run().await;
                let credentials = &snapshot.credentials;
                let rests = credentials.entries().filter(|(id, _)| credentials.cooling(*id, clock::read()).is_some());
                resting.push(rests.map(|(_, entry)| entry.name.clone()).collect());
                assert!(credentials.quota_groups().iter().all(|group| group.quota(QuotaKind::Budget).is_some()));
            }
            resting
        });
        (requests.try_iter().count(), resting, schedule)
    }

    #[test]
    fn a_blocked_user_rests_with_all_its_credentials_until_a_round_says_otherwise() {
        let requests = ok(r#"{"requests_used":1,"limit":0}"#);
        let of = |user, status| [budget(user, status), requests.clone()];
        let first = [of("u", "active"), of("u", "BLOCKED"), of("v", "active")];
        let first = first.into_iter().flat_map(|answers| [ok(TOKEN)].into_iter().chain(answers));
        let failing = vec![ok("<html>"); 6];
        let last = [of("u", "blocked"), of("u", "active"), of("v", "active")].into_iter().flatten();
        let (asked, resting, schedule) = rounds(3, first.chain(failing).chain(last).collect());
        assert_eq!(asked, 9 + 6 + 6);
        let blocked = ["a", "b"].map(str::to_owned).to_vec();
        assert_eq!(resting, [blocked.clone(), blocked, vec![]]);
        assert_eq!((schedule.failed_count(), schedule.failing_count()), (3, 0));
    }

    #[test]
    fn an_identity_without_an_answer_keeps_no_other_from_being_asked() {
        let refused = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n".to_owned();
        let answers = vec![refused, ok(TOKEN), budget("u", "blocked"), String::new(), String::new()];
        let (asked, resting, schedule) = rounds(1, answers);
        assert_eq!((asked, resting), (5, vec![vec!["b".to_owned()]]));
        assert_eq!((schedule.failed_count(), schedule.failing_count()), (3, 3));
    }
}
