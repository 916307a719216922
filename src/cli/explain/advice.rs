//! Advice on a failed exchange: what its status or its end means, and what to do.

use crate::capture::document::CaptureDocument;

/// The field by which an answer made here is known.
const OWN_ERROR: &str = "x-flow-uring-error";

/// Returns what the end of an exchange means, and what to do, in one or two sentences each.
pub fn advice(document: &CaptureDocument) -> Vec<String> {
    let mut advice = Vec::new();
    if let Some(code) = &document.code {
        let message =
            own_message(document).unwrap_or_else(|| "See docs/user-guide.md, Errors of the gateway.".to_owned());
        advice.push(format!("The gateway made this answer itself ({code}): {message}"));
    } else if let Some(text) = document.status.filter(|status| *status >= 400).map(of_status) {
        advice.push(format!("The upstream gave this answer. {text}"));
    }
    advice.extend(of_end(&document.end).map(str::to_owned));
    if document.attempts.len() > 1 {
        advice
            .push("More than one attempt was made; the table above says by whom and why it was not enough.".to_owned());
    }
    advice
}

/// Returns the message in the body of an answer made here, which says what happened and what to do.
fn own_message(document: &CaptureDocument) -> Option<String> {
    let head = document.answer.head.as_ref()?;
    head.fields.iter().find(|(name, _)| name.text().eq_ignore_ascii_case(OWN_ERROR))?;
    let body: serde_json::Value = serde_json::from_str(document.answer.body.text.as_ref()?.text()).ok()?;
    Some(body["error"]["message"].as_str()?.to_owned())
}

fn of_status(status: u16) -> &'static str {
    match status {
        400 | 422 => {
            "It does not accept the request: its body says which part; compare it with the body that was sent."
        }
        401 => "It does not accept the token: run flow-uring check --online, which tries each credential.",
        402 => "A budget is used up: ask who administers the tenant, or add another credential.",
        403 => "The credential may not do this: the model may not be enabled for it; see flow-uring check --online.",
        404 => "There is no such path, model or object: check the base URL of the client and the name of the model.",
        408 => "It did not get the request in time: check the network between the gateway and the upstream.",
        413 => "The request is too large for it: send less.",
        429 => {
            "A limit of requests or tokens is reached for every credential that was asked: wait for the time in \
                Retry-After, or add another credential."
        }
        500 => "It has failed inside: try again, and report it with its x-request-id if it persists.",
        502..=504 | 529 => "It, or the model behind it, is overloaded or down: try again in a while.",
        _ => "Its body says more.",
    }
}

fn of_end(end: &str) -> Option<&'static str> {
    Some(match end {
        "upstream_closed" => {
            "The upstream broke off before its answer was complete: try again. If it happens after the same time again and \
             again, something between cuts long answers off."
        }
        "upstream_invalid" => "The upstream's answer broke the protocol: check that --upstream names the right server.",
        "upstream_unreachable" => {
            "The upstream could not be reached: check --upstream, the network and DNS; flow-uring check --online tries it."
        }
        "timeout" => {
            "A limit of time ran out: see the table of limits in docs/settings.md, --client-timeout above all."
        }
        "shutdown" => "The gateway was stopped and could not wait any longer: try again, or raise --drain-timeout.",
        "client_disconnected" => "The client left before the answer was complete: look at its own time limit.",
        "internal" => "The gateway itself has failed: its log says more; please report it.",
        _ => return None,
    })
}
