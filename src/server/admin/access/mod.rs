//! Access to what shows figures or changes something: by the token of `--admin-token-file` (`token`), or by a `session`
//! that its page has made of it.
//!
//! On a loopback address no token is needed unless there is one; on any other nothing is shown without. Health,
//! readiness and metrics need none anywhere: probes and scrapers have none. Invariant: no answer tells more of a token
//! than whether it is the right one, and nothing here is logged of one.

pub mod sessions;
pub mod token;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwapOption;

use self::sessions::Sessions;
use self::token::AdminToken;
use super::refusal::AdminRefusal;
use crate::credentials::Secret;

/// The access that a page needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Everybody may have it.
    Nothing,
    /// It shows nothing by itself, but is of no use where no token can be asked for.
    WayIn,
    /// It shows figures, or changes something.
    Token,
}

/// The right of a request to ask, as it shows it.
#[derive(Debug, Default)]
pub struct Proof {
    /// `Authorization: Bearer`.
    pub bearer: Option<Secret>,
    /// The cookie of a session.
    pub session: Option<Secret>,
}

/// The rules of access, and who is logged in.
pub struct AdminAccess {
    is_local: bool,
    token: Arc<ArcSwapOption<AdminToken>>,
    sessions: RefCell<Sessions>,
    /// Cookies are shared by all ports of a host: each gateway has a name of its own for its.
    cookie: String,
}

impl AdminAccess {
    pub fn new(address: SocketAddr, token: Arc<ArcSwapOption<AdminToken>>) -> Self {
        AdminAccess {
            is_local: address.ip().to_canonical().is_loopback(),
            token,
            sessions: RefCell::default(),
            cookie: format!("flow_uring_admin_{}", address.port()),
        }
    }

    pub fn cookie_name(&self) -> &str {
        &self.cookie
    }

    /// Decides whether a request gets what needs this.
    ///
    /// # Errors
    /// [`AdminRefusal::NoTokenFile`], [`AdminRefusal::TokenMissing`], [`AdminRefusal::TokenWrong`].
    pub fn check(&self, need: Need, proof: &Proof) -> Result<(), AdminRefusal> {
        let token = self.token.load_full();
        match (need, token) {
            (Need::Nothing, _) | (Need::WayIn, Some(_)) => Ok(()),
            (Need::WayIn | Need::Token, None) if self.is_local => Ok(()),
            (Need::WayIn | Need::Token, None) => Err(AdminRefusal::NoTokenFile),
            (Need::Token, Some(token)) => self.check_token(&token, proof),
        }
    }

    fn check_token(&self, token: &AdminToken, proof: &Proof) -> Result<(), AdminRefusal> {
        if let Some(bearer) = &proof.bearer {
            return if token.is(bearer) { Ok(()) } else { Err(AdminRefusal::TokenWrong) };
        }
        let is_logged_in = |session| self.sessions.borrow_mut().knows(session, token, Instant::now());
        match proof.session.as_ref().is_some_and(is_logged_in) {
            true => Ok(()),
            false => Err(AdminRefusal::TokenMissing),
        }
    }

    /// Makes a session for who shows the token, and returns its `Set-Cookie` line; `None`: no token is asked for here.
    ///
    /// # Errors
    /// [`AdminRefusal::TokenWrong`].
    pub fn log_in(&self, shown: &Secret) -> Result<Option<String>, AdminRefusal> {
        let Some(token) = self.token.load_full() else { return Ok(None) };
        if !token.is(shown) {
            return Err(AdminRefusal::TokenWrong);
        }
        let value = self.sessions.borrow_mut().begin(&token, Instant::now()).ok_or(AdminRefusal::NoSession)?;
        let (cookie, seconds) = (&self.cookie, sessions::SESSION_LIMIT.as_secs());
        let attributes = format!("HttpOnly; SameSite=Strict; Path=/; Max-Age={seconds}");
        Ok(Some(format!("Set-Cookie: {cookie}={}; {attributes}\r\n", value.expose())))
    }

    /// Ends the session of a request, and returns the line that removes its cookie.
    pub fn log_out(&self, proof: &Proof) -> String {
        if let Some(session) = &proof.session {
            self.sessions.borrow_mut().end(session);
        }
        format!("Set-Cookie: {}=; HttpOnly; SameSite=Strict; Path=/; Max-Age=0\r\n", self.cookie)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(address: &str, token: Option<&str>) -> AdminAccess {
        let token = token.map(|token| Arc::new(AdminToken::parse(token).expect("a token")));
        AdminAccess::new(address.parse().expect("an address"), Arc::new(ArcSwapOption::new(token)))
    }

    const TOKEN: &str = "a-token-of-twenty-ch";

    fn bearer(text: &str) -> Proof {
        Proof { bearer: Some(Secret::new(text.into())), session: None }
    }

    #[test]
    fn what_shows_figures_needs_the_token_wherever_there_is_one_and_anywhere_but_on_loopback() {
        for (address, token, need, proof, expected) in [
            ("127.0.0.1:1", None, Need::Token, Proof::default(), Ok(())),
            ("[::1]:1", None, Need::WayIn, Proof::default(), Ok(())),
            ("[::ffff:127.0.0.1]:1", None, Need::Token, Proof::default(), Ok(())),
            ("0.0.0.0:1", None, Need::Nothing, Proof::default(), Ok(())),
            ("0.0.0.0:1", None, Need::WayIn, Proof::default(), Err(AdminRefusal::NoTokenFile)),
            ("10.0.0.1:1", None, Need::Token, bearer(TOKEN), Err(AdminRefusal::NoTokenFile)),
            ("127.0.0.1:1", Some(TOKEN), Need::Token, Proof::default(), Err(AdminRefusal::TokenMissing)),
            ("127.0.0.1:1", Some(TOKEN), Need::WayIn, Proof::default(), Ok(())),
            ("10.0.0.1:1", Some(TOKEN), Need::Token, bearer("a-token-of-twenty-cx"), Err(AdminRefusal::TokenWrong)),
            ("10.0.0.1:1", Some(TOKEN), Need::Token, bearer(TOKEN), Ok(())),
            ("10.0.0.1:1", Some(TOKEN), Need::Nothing, bearer("x"), Ok(())),
        ] {
            assert_eq!(access(address, token).check(need, &proof), expected, "{address} {need:?}");
        }
    }

    #[test]
    fn a_session_is_made_of_the_token_and_ends_when_its_owner_leaves_or_the_token_changes() {
        let access = access("10.0.0.1:8900", Some(TOKEN));
        assert_eq!(access.log_in(&Secret::new("wrong".into())), Err(AdminRefusal::TokenWrong));
        let session = || {
            let line = access.log_in(&Secret::new(TOKEN.into())).expect("the token").expect("a line");
            assert!(line.ends_with("; HttpOnly; SameSite=Strict; Path=/; Max-Age=43200\r\n"), "{line}");
            assert!(!line.contains(TOKEN));
            let value = line.strip_prefix("Set-Cookie: flow_uring_admin_8900=").and_then(|rest| rest.split_once(';'));
            Proof { bearer: None, session: Some(Secret::new(value.expect("a value").0.to_owned())) }
        };
        let (one, other) = (session(), session());
        assert_eq!([&one, &other].map(|proof| access.check(Need::Token, proof)), [Ok(()); 2]);
        access.log_out(&one);
        let checked = [&one, &other].map(|proof| access.check(Need::Token, proof));
        assert_eq!(checked, [Err(AdminRefusal::TokenMissing), Ok(())]);
        access.token.store(Some(Arc::new(AdminToken::parse("another-token-of-24-char").expect("a token"))));
        assert_eq!(access.check(Need::Token, &other), Err(AdminRefusal::TokenMissing));
    }
}
