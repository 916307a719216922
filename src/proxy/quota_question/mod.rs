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
use crate::credentials::quota::groups::{QuotaGroup, QuotaNews};
use crate::credentials::quota::record::QuotaMoment;
use crate::credentials::{CredentialId, Credentials};
use crate::io::{Either, Lifecycle, Phase, clock, pause, race};
use crate::observability::{Activity, Count};
use crate::proxy::resources::Resources;
use crate::proxy::resources::quota::{QuotaSchedule, RoundClaim};
use crate::proxy::snapshot::Newest;
use crate::upstream::Connector;

/// The longest that a round takes: it ends before the next one is due. That begins with those that were not asked.
const ROUND_LIMIT: Duration = Duration::from_secs(240);

/// The credentials of a user that the log names.
const NAMES_MAX: usize = 10;

/// Everything that a round needs after the request that was its reason is over.
struct Round {
    /// Those that were the newest ones at its begin, and the newest ones.
    credentials: Arc<Credentials>,
    newest: Newest,
    authority: String,
    connector: Rc<Connector>,
    lifecycle: Rc<Lifecycle>,
    activity: Arc<Activity>,
    schedule: Arc<QuotaSchedule>,
    claim: RoundClaim,
}

/// Begins a round if one is due. To be called when a request is forwarded.
pub fn ask_if_due(resources: &Resources, newest: &Newest) {
    let Some(schedule) = &resources.quota else { return };
    if schedule.is_due(clock::now()) {
        begin(resources, newest, schedule);
    }
}

#[cold]
fn begin(resources: &Resources, newest: &Newest, schedule: &Arc<QuotaSchedule>) {
    let Resources { rules, connector, lifecycle, activity, .. } = resources;
    if lifecycle.phase() != Phase::Serving {
        return;
    }
    let Some(claim) = schedule.claim(clock::now()) else { return };
    let round = Round {
        credentials: newest.borrow().credentials.clone(),
        newest: newest.clone(),
        authority: rules.upstream.authority.clone(),
        connector: connector.clone(),
        lifecycle: lifecycle.clone(),
        activity: activity.clone(),
        schedule: schedule.clone(),
        claim,
    };
    monoio::spawn(round.run());
}

/// The failures of a round.
#[derive(Default)]
struct RoundFailures {
    count: usize,
    /// The first one, with the name of its credential.
    first: Option<(String, InquiryError)>,
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
        let Round { credentials, schedule, .. } = self;
        let identities = credentials.identities();
        let first = schedule.first(identities.len());
        let places = (first..identities.len()).chain(0..first);
        for place in places {
            schedule.note_asked(place);
            let credential = identities[place];
            let inquiry = Inquiry { connector: &self.connector, authority: &self.authority, credentials, credential };
            let inquired = inquiry.ask().await;
            self.note(credential, &inquired);
            credentials.note_quotas_failing(credential, inquired.failure.is_some());
            if let Some(failure) = inquired.failure {
                schedule.note_failed();
                failures.count += 1;
                let name = || credentials.entry(credential).name.clone();
                failures.first.get_or_insert_with(|| (name(), failure));
            }
            if !self.is_of_newest() {
                // A reload has replaced them: their secrets are not needed here any more.
                return schedule.give_up(&self.claim);
            }
        }
    }

    /// Returns whether no other credentials were loaded since it began.
    fn is_of_newest(&self) -> bool {
        Arc::ptr_eq(&self.credentials, &self.newest.borrow().credentials)
    }

    fn note(&self, credential: CredentialId, Inquired { answers, .. }: &Inquired) {
        let now = QuotaMoment::now();
        if answers.budget.is_some() || answers.requests.is_some() {
            let begun = self.credentials.note_quotas(credential, answers, now);
            begun.iter().for_each(|_| self.activity.counters.add(Count::Cooldowns));
        }
        for news in self.credentials.quota_news(now.unix) {
            tell_news(&self.credentials, &news);
        }
    }

    /// Writes to the log whether questions fail. An identity that the round did not come to counts as it did before.
    fn tell(&self, failures: RoundFailures) {
        let failing = self.newest.borrow().credentials.quotas_failing_count();
        let is_news = self.schedule.end_round(failing);
        if failing == 0 && is_news {
            tracing::info!("the upstream tells all quotas again");
        }
        let RoundFailures { count, first } = failures;
        let Some((credential, reason)) = first else { return };
        let reason = reason.to_string();
        if failing > 0 && is_news {
            tracing::warn!(credential, failed = count, reason, "the upstream was asked for quotas in vain");
        } else {
            tracing::debug!(credential, failed = count, reason, "the upstream was asked for quotas in vain again");
        }
    }
}

/// Writes to the log that a user is blocked from now on, with which credentials, or not any more.
fn tell_news(all: &Credentials, news: &QuotaNews) {
    let (QuotaNews::Begins(group) | QuotaNews::Joins(group) | QuotaNews::Ends(group)) = news;
    let names: Vec<&str> = group.credentials.iter().take(NAMES_MAX).map(|id| &*all.entry(*id).name).collect();
    let more = group.credentials.len() - names.len();
    let credentials = names.join(", ") + &if more > 0 { format!(" and {more} more") } else { String::new() };
    match news {
        QuotaNews::Begins(_) => tell_block(group, &credentials),
        QuotaNews::Joins(_) => {
            tracing::warn!(user = group.name, credentials, "more credentials of a blocked user cool down");
        }
        QuotaNews::Ends(_) => tracing::info!(user = group.name, credentials, "quota is not blocked any more"),
    }
}

fn tell_block(group: &QuotaGroup, credentials: &str) {
    let now = QuotaMoment::now().unix;
    let blocked = || group.quotas().filter(|(_, quota)| quota.is_blocked(now));
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
    use std::cell::RefCell;

    use super::*;
    use crate::credentials::quota::record::QuotaKind;
    use crate::credentials::{Rotations, from_json};
    use crate::io::deadline::on_a_shard;
    use crate::observability::Ledger;
    use crate::proxy::key_accounts::KeyAccounts;
    use crate::proxy::own_request::tests::{SILENCE, answering};
    use crate::proxy::snapshot::Snapshot;

    fn ok(body: &str) -> String {
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    const TOKEN: &str = r#"{"token":"t"}"#;

    fn budget(user: &str, status: &str) -> String {
        ok(&format!(r#"{{"consumed_usd":1,"limit":2,"user_id":"{user}","status":"{status}"}}"#))
    }

    fn credentials(names: &[&str]) -> Credentials {
        let entry = |name: &&str| format!(r#"{{"name":"{name}","clientId":"{name}","clientSecret":"s","tenant":"t"}}"#);
        let entries: Vec<String> = names.iter().map(entry).collect();
        from_json(&format!("[{}]", entries.join(","))).expect("valid").credentials
    }

    fn newest(credentials: &Arc<Credentials>) -> Newest {
        let rotations = Arc::new(Rotations::new(credentials.clone(), None));
        let snapshot = Snapshot::new(rotations, &Ledger::new(1), &KeyAccounts::default());
        Rc::new(RefCell::new(Rc::new(snapshot)))
    }

    fn round(
        credentials: &Arc<Credentials>,
        newest: &Newest,
        connector: &Rc<Connector>,
        schedule: &Arc<QuotaSchedule>,
    ) -> Round {
        Round {
            credentials: credentials.clone(),
            newest: newest.clone(),
            authority: "api.example".to_owned(),
            connector: connector.clone(),
            lifecycle: Rc::default(),
            activity: Arc::default(),
            schedule: schedule.clone(),
            claim: schedule.claim(clock::read()).expect("due"),
        }
    }

    /// Makes so many rounds with credentials a, b and c, and returns the first lines of the requests, and after each
    /// round the names of those that rest.
    fn rounds(count: usize, answers: Vec<String>) -> (usize, Vec<Vec<String>>, Arc<QuotaSchedule>) {
        let credentials = Arc::new(credentials(&["a", "b", "c"]));
        let schedule = Arc::new(QuotaSchedule::new(Duration::ZERO));
        let (connector, requests) = answering(answers);
        let of_rounds = schedule.clone();
        let resting = on_a_shard(async move {
            let (connector, newest) = (Rc::new(connector), newest(&credentials));
            let mut resting = Vec::new();
            for _ in 0..count {
                round(&credentials, &newest, &connector, &of_rounds).run().await;
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

    #[test]
    fn a_round_ends_once_there_are_other_credentials_and_the_next_one_is_due() {
        let requests = ok(r#"{"requests_used":1}"#);
        let of_three = [ok(TOKEN), ok("<html>"), ok("<html>")];
        let answers = [of_three.clone(), of_three.clone(), of_three].concat();
        let (connector, asked) = answering([answers, vec![budget("u", "active"), requests]].concat());
        let schedule = Arc::new(QuotaSchedule::new(Duration::from_secs(300)));
        let of_rounds = schedule.clone();
        on_a_shard(async move {
            let (before, connector) = (Arc::new(credentials(&["a", "b", "c"])), Rc::new(connector));
            round(&before, &newest(&before), &connector, &of_rounds).run().await;
            assert_eq!((of_rounds.failing_count(), of_rounds.is_due(clock::read())), (3, false));
            of_rounds.hasten();
            let after = Arc::new(credentials(&["c", "b", "a", "d"]).inherit(&before));
            round(&before, &newest(&after), &connector, &of_rounds).run().await;
            // Of those that it did not come to it is not known that they are told anything.
            assert_eq!((of_rounds.failing_count(), of_rounds.is_due(clock::read())), (2, true));
        });
        assert_eq!(asked.try_iter().count(), 9 + 2);
    }

    #[test]
    fn a_block_is_told_before_the_next_identity_is_asked() {
        let answers = vec![ok(TOKEN), budget("u", "blocked"), ok(r#"{"requests_used":1}"#), SILENCE.to_owned()];
        let (connector, asked) = answering(answers);
        on_a_shard(async move {
            let (all, schedule) = (Arc::new(credentials(&["a", "b"])), Arc::new(QuotaSchedule::new(Duration::ZERO)));
            let running = round(&all, &newest(&all), &Rc::new(connector), &schedule).run();
            assert!(matches!(race(running, pause(Duration::from_millis(300))).await, Either::Second(())));
            assert!(all.quota_groups()[0].is_blocked(QuotaMoment::now().unix));
            assert!(all.quota_news(QuotaMoment::now().unix).is_empty(), "the log says so already");
        });
        assert_eq!(asked.try_iter().count(), 4);
    }
}
