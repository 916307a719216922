//! The question to the upstream for the prices of its models: `GET {base path}/model/info`, LiteLLM's own list.
//!
//! Asked in the background when an answer told its tokens and not its cost, and the prices are of age, with the first
//! credential. Invariant: it holds no request back, changes nothing but the prices, and no drain waits for it; where
//! there are none, estimates are missing and nothing else.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::io::{Either, Lifecycle, Phase, clock, pause, race};
use crate::proxy::own_request::{OwnRequestError, answer_of, get_request};
use crate::proxy::resources::Resources;
use crate::proxy::resources::prices::Prices;
use crate::proxy::snapshot::Snapshot;
use crate::upstream::Connector;
use crate::usage::prices::MODEL_INFO_BYTES_MAX;

/// The longest that the questions take together. LiteLLM looks up every model for its answer.
const QUESTION_LIMIT: Duration = Duration::from_secs(30);

/// The paths of the list. LiteLLM serves both; what stands before it may pass only the second one on.
const LIST_PATHS: [&str; 2] = ["/model/info", "/v1/model/info"];

/// The status by which one learns that a path is not there.
const NOT_FOUND: u16 = 404;

/// Everything that a question needs after the request that was its reason is over.
struct PriceQuestion {
    requests: [Zeroizing<Vec<u8>>; 2],
    connector: Rc<Connector>,
    lifecycle: Rc<Lifecycle>,
    prices: Arc<Prices>,
}

/// Begins the question if it is due. To be called when an answer needs a price.
/// One that told no tokens is worth the question only if more follow.
pub fn ask_if_due(resources: &Resources, snapshot: &Snapshot, has_told_tokens: bool) {
    let Resources { prices, lifecycle, connector, rules, .. } = resources;
    let is_wanted = has_told_tokens || prices.are_estimates_usual();
    if lifecycle.phase() != Phase::Serving || !is_wanted || !prices.claim(clock::now()) {
        return;
    }
    let Some((first, _)) = snapshot.credentials.entries().next() else { return prices.end_question() };
    let requests = snapshot.with_authorization(first, |authorization| {
        LIST_PATHS.map(|path| get_request(&rules.upstream, path, authorization))
    });
    let Ok(requests) = requests else { return prices.end_question() };
    let question =
        PriceQuestion { requests, connector: connector.clone(), lifecycle: lifecycle.clone(), prices: prices.clone() };
    monoio::spawn(question.run());
}

impl PriceQuestion {
    async fn run(self) {
        let interrupted = race(pause(QUESTION_LIMIT), self.lifecycle.reached(Phase::Draining));
        match race(self.ask(), interrupted).await {
            // It is over when the answer is read.
            Either::First(Ok((200, body))) => return self.prices.hand_over(body),
            Either::First(Ok((status, _))) if self.prices.is_first_refusal() => tracing::info!(
                status,
                "the upstream does not tell the prices of its models: costs that it does not report are not estimated"
            ),
            Either::First(Ok((status, _))) => tracing::debug!(status, "the upstream does not tell its prices"),
            Either::First(Err(error)) => tracing::debug!(%error, "the upstream was asked for its prices in vain"),
            Either::Second(Either::First(())) => tracing::debug!("the upstream took too long to tell its prices"),
            Either::Second(Either::Second(())) => {}
        }
        self.prices.end_question();
    }

    async fn ask(&self) -> Result<(u16, Vec<u8>), OwnRequestError> {
        let [request, other] = &self.requests;
        match answer_of(&self.connector, request, MODEL_INFO_BYTES_MAX).await {
            Ok((NOT_FOUND, _)) => answer_of(&self.connector, other, MODEL_INFO_BYTES_MAX).await,
            answered => answered,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::io::deadline::on_a_shard;
    use crate::proxy::own_request::tests::answering;
    use crate::proxy::request::head::UpstreamIdentity;

    /// Asks an upstream with these answers. Returns the first lines of the requests, and what was handed over.
    fn asked(answers: &[&str]) -> (Vec<String>, Vec<Vec<u8>>) {
        let (connector, requests) = answering(answers.iter().map(|answer| (*answer).to_owned()).collect());
        let (sender, handed_over) = channel();
        on_a_shard(async move {
            let upstream = UpstreamIdentity { base_path: "/base".to_owned(), authority: "api.example".to_owned() };
            let question = PriceQuestion {
                requests: LIST_PATHS.map(|path| get_request(&upstream, path, b"Bearer t")),
                connector: Rc::new(connector),
                lifecycle: Rc::default(),
                prices: Arc::new(Prices::asked(sender)),
            };
            question.run().await;
        });
        (requests.try_iter().collect(), handed_over.iter().collect())
    }

    #[test]
    fn the_list_is_asked_for_at_its_second_path_where_the_first_is_not_found_and_nowhere_else() {
        const FIRST: &str = "GET /base/model/info HTTP/1.1";
        const SECOND: &str = "GET /base/v1/model/info HTTP/1.1";
        let found = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        let not_found = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
        let refused = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
        let moved = "HTTP/1.1 307 Temporary Redirect\r\nLocation: /model/info\r\nContent-Length: 0\r\n\r\n";
        for (answers, expected, is_found) in [
            (vec![found], vec![FIRST], true),
            (vec![not_found, found], vec![FIRST, SECOND], true),
            (vec![not_found, not_found, found], vec![FIRST, SECOND], false),
            (vec![refused, found], vec![FIRST], false),
            (vec![moved, found], vec![FIRST], false),
        ] {
            let (requests, handed_over) = asked(&answers);
            assert_eq!(requests, expected);
            assert_eq!(handed_over, if is_found { vec![b"{}".to_vec()] } else { vec![] }, "{answers:?}");
        }
    }
}
