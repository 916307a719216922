//! The JWT that stands for a credential, and each shard's store of ready `Authorization` values.
//!
//! The claims hold the client secret in plain base64: a token reveals the secret. So tokens live in [`Secret`]s and
//! zeroed buffers, and go nowhere but into the upstream's `Authorization` field.

use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde::Serialize;
use zeroize::Zeroizing;

use super::credential::{Credential, CredentialId};
use super::secret::Secret;
use super::snapshot::Credentials;
use super::token_traces::TokenTraces;

/// Time for which a token is used. It carries no expiry; this is the life that the Python original gave its cache.
const TOKEN_LIFE: Duration = Duration::from_secs(3600);
/// Time before the end of its life at which a token is minted anew.
const RENEWAL_MARGIN: Duration = Duration::from_secs(300);

/// The header in the byte order that other JWT libraries write. `jsonwebtoken`'s own `Header` puts `typ` first, so its
/// `encode` is not used.
const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;
const SCHEME: &[u8] = b"Bearer ";
/// More than the names of the claims take, with all that is around them.
const CLAIM_NAMES_BYTES: usize = 64;
/// The longest form of a byte in JSON: `\u0000`.
const ESCAPED_BYTES_MAX: usize = 6;

/// The claims: exactly these, in this order; no `iat`, no `exp`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Claims<'a> {
    client_id: &'a str,
    client_secret: &'a str,
    tenant: &'a str,
}

/// Mints the token of a credential: HS256 over header and claims, with the client secret as key.
///
/// # Errors
/// When the claims cannot be written or the signature cannot be made. Neither error holds anything of their content.
pub fn mint(credential: &Credential) -> Result<Secret, TokenError> {
    let client_secret = credential.client_secret.expose();
    let claims = Claims { client_id: &credential.client_id, client_secret, tenant: &credential.tenant };
    // Capacity for everything at once, here and below: what grows would leave unzeroed copies of the claims behind.
    let texts_bytes = credential.client_id.len() + client_secret.len() + credential.tenant.len();
    let mut written = Zeroizing::new(Vec::with_capacity(CLAIM_NAMES_BYTES + ESCAPED_BYTES_MAX * texts_bytes));
    serde_json::to_writer(&mut *written, &claims).map_err(|_| TokenError::Claims)?;
    let claims = written;
    let signature_bytes = 1 + 43;
    let token_bytes = (HEADER.len() + claims.len()).div_ceil(3) * 4 + 4 + signature_bytes;
    let mut token = String::with_capacity(token_bytes);
    URL_SAFE_NO_PAD.encode_string(HEADER, &mut token);
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(claims.as_slice(), &mut token);
    let key = EncodingKey::from_secret(client_secret.as_bytes());
    let signature = jsonwebtoken::crypto::sign(token.as_bytes(), &key, Algorithm::HS256);
    let mut token = Zeroizing::new(token);
    let signature = Zeroizing::new(signature.map_err(|_| TokenError::Signature)?);
    token.push('.');
    token.push_str(&signature);
    Ok(Secret::from(token))
}

/// The reason why no token could be minted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenError {
    Claims,
    Signature,
}

impl fmt::Display for TokenError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            TokenError::Claims => "the token's claims could not be written",
            TokenError::Signature => "the token could not be signed",
        })
    }
}

impl std::error::Error for TokenError {}

/// Returns the token alone of an `Authorization` value that a [`TokenCache`] gave.
pub fn bare_token(authorization: &[u8]) -> &[u8] {
    authorization.strip_prefix(SCHEME).unwrap_or(authorization)
}

/// The ready `Authorization` values of one shard, by credential. It belongs to one snapshot: a reload makes another.
pub struct TokenCache {
    tokens: Vec<CachedToken>,
    /// Those of a token that was not made yet.
    no_traces: Rc<TokenTraces>,
}

#[derive(Default)]
struct CachedToken {
    authorization: Zeroizing<Vec<u8>>,
    /// `None` until the first use.
    renew_at: Option<Instant>,
    traces: Option<Rc<TokenTraces>>,
}

impl TokenCache {
    /// Makes an empty cache for `credentials_count` credentials.
    pub fn new(credentials_count: usize) -> Self {
        let tokens = (0..credentials_count).map(|_| CachedToken::default()).collect();
        TokenCache { tokens, no_traces: Rc::new(TokenTraces::none()) }
    }

    /// Returns the `Authorization` value (`Bearer <jwt>`) of a credential: signed at its first use and 300 s before an
    /// hour is over, without allocation at all other times.
    ///
    /// # Errors
    /// As [`mint`]. A value that is due for renewal and cannot be renewed is not used.
    pub fn authorization(
        &mut self,
        credentials: &Credentials,
        id: CredentialId,
        now: Instant,
    ) -> Result<&[u8], TokenError> {
        let cached = &mut self.tokens[id.index()];
        if cached.renew_at.is_none_or(|renew_at| now >= renew_at) {
            *cached = CachedToken::mint(credentials.entry(id), now)?;
        }
        Ok(&cached.authorization)
    }

    /// Returns how the token of a credential is known when it comes back: by nothing before its first use, since none
    /// was sent.
    pub fn traces(&self, id: CredentialId) -> Rc<TokenTraces> {
        self.tokens[id.index()].traces.as_ref().unwrap_or(&self.no_traces).clone()
    }
}

impl fmt::Debug for TokenCache {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TokenCache").field("credentials_count", &self.tokens.len()).finish_non_exhaustive()
    }
}

impl CachedToken {
    fn mint(credential: &Credential, now: Instant) -> Result<Self, TokenError> {
        let token = mint(credential)?;
        let mut authorization = Zeroizing::new(Vec::with_capacity(SCHEME.len() + token.expose().len()));
        authorization.extend_from_slice(SCHEME);
        authorization.extend_from_slice(token.expose().as_bytes());
        let traces = Some(Rc::new(TokenTraces::new(token.expose(), &credential.client_secret)));
        Ok(CachedToken { authorization, renew_at: Some(now + (TOKEN_LIFE - RENEWAL_MARGIN)), traces })
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{DecodingKey, Validation};

    use super::*;
    use crate::credentials::secrets_file::from_json;

    const SECRETS: &str = r#"[
        {"clientId": "abc-123", "clientSecret": "hunter2-and-more", "tenant": "ciandt"},
        {"clientId": "abc-123", "clientSecret": "s\"\\é\u0001/", "tenant": "t"}
    ]"#;

    fn credentials() -> Credentials {
        from_json(SECRETS).expect("valid").credentials
    }

    fn id(credentials: &Credentials, index: usize) -> CredentialId {
        credentials.entries().nth(index).expect("an entry").0
    }

    /// Decodes header and claims of a token to the bytes that were signed.
    fn parts(token: &str) -> [String; 2] {
        let mut parts = token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).expect("base64"));
        [(); 2].map(|()| String::from_utf8(parts.next().expect("a part")).expect("text"))
    }

    #[test]
    fn a_token_is_byte_for_byte_what_pyjwt_makes_of_the_same_credential() {
        let credentials = credentials();
        let token = mint(credentials.entry(id(&credentials, 0))).expect("minted");
        // jwt.encode({"clientId": …, "clientSecret": …, "tenant": …}, clientSecret, algorithm="HS256")
        assert_eq!(
            token.expose(),
            "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJjbGllbnRJZCI6ImFiYy0xMjMiLCJjbGllbnRTZWNyZXQiOiJodW50ZXIyLWFuZC1tb3Jl\
             IiwidGVuYW50IjoiY2lhbmR0In0._QOvvxty2abUXFCXr2HdpTdWw618bF7B7bpHsV37HIY"
        );
    }

    #[test]
    fn header_and_claims_are_exact_and_the_signature_holds() {
        let credentials = credentials();
        for (id, claims) in [
            (id(&credentials, 0), r#"{"clientId":"abc-123","clientSecret":"hunter2-and-more","tenant":"ciandt"}"#),
            (id(&credentials, 1), r#"{"clientId":"abc-123","clientSecret":"s\"\\é\u0001/","tenant":"t"}"#),
        ] {
            let credential = credentials.entry(id);
            let token = mint(credential).expect("minted");
            assert_eq!(parts(token.expose()), [r#"{"alg":"HS256","typ":"JWT"}"#, claims]);
            let mut validation = Validation::new(Algorithm::HS256);
            validation.required_spec_claims.clear();
            let decode = |secret: &[u8]| {
                let key = DecodingKey::from_secret(secret);
                jsonwebtoken::decode::<serde_json::Value>(token.expose(), &key, &validation)
            };
            let decoded = decode(credential.client_secret.expose().as_bytes()).expect("a valid signature");
            assert_eq!(decoded.claims, serde_json::from_str::<serde_json::Value>(claims).expect("JSON"));
            assert!(decode(b"another secret").is_err());
        }
    }

    #[test]
    fn a_token_fits_the_room_that_was_set_aside() {
        let credentials = credentials();
        for (_, credential) in credentials.entries() {
            let token = mint(credential).expect("minted");
            let claims_bytes = parts(token.expose())[1].len();
            assert!(token.expose().len() <= (HEADER.len() + claims_bytes).div_ceil(3) * 4 + 4 + 44);
        }
    }

    #[test]
    fn a_value_is_kept_until_300_s_before_its_hour_is_over() {
        let credentials = credentials();
        let id = id(&credentials, 0);
        let mut cache = TokenCache::new(credentials.len());
        let start = Instant::now();
        let mut address = |after_s: u64| {
            let now = start + Duration::from_secs(after_s);
            cache.authorization(&credentials, id, now).expect("a value");
            cache.tokens[id.index()].renew_at
        };
        let first = address(0);
        assert_eq!(first, Some(start + Duration::from_secs(3300)));
        assert_eq!(address(3299), first, "kept");
        let second = address(3300);
        assert_eq!(second, Some(start + Duration::from_secs(6600)), "made anew");
        assert_eq!(address(6599), second, "kept");
    }

    #[test]
    fn the_cached_value_is_the_scheme_and_the_token_of_each_credential_by_itself() {
        let credentials = credentials();
        let mut cache = TokenCache::new(credentials.len());
        let now = Instant::now();
        for (id, credential) in credentials.entries() {
            let expected = format!("Bearer {}", mint(credential).expect("minted").expose());
            assert_eq!(cache.authorization(&credentials, id, now), Ok(expected.as_bytes()), "the same clientId twice");
            assert_eq!(cache.authorization(&credentials, id, now).map(bare_token), Ok(&expected.as_bytes()[7..]));
            let before = cache.authorization(&credentials, id, now).map(<[u8]>::as_ptr);
            assert_eq!(cache.authorization(&credentials, id, now).map(<[u8]>::as_ptr), before, "no new copy");
        }
    }

    #[test]
    fn a_token_is_known_when_it_comes_back_from_its_first_use_on() {
        let credentials = credentials();
        let id = id(&credentials, 0);
        let mut cache = TokenCache::new(credentials.len());
        let token = mint(credentials.entry(id)).expect("minted");
        assert!(!cache.traces(id).may_be_in(token.expose().as_bytes()));
        cache.authorization(&credentials, id, Instant::now()).expect("a value");
        let traces = cache.traces(id);
        assert_eq!(traces.runs_in(token.expose().as_bytes()).len(), 2, "payload and signature");
        assert!(Rc::ptr_eq(&traces, &cache.traces(id)), "made once");
    }

    #[test]
    fn no_debug_output_holds_a_secret_or_a_token() {
        let credentials = credentials();
        let mut cache = TokenCache::new(credentials.len());
        cache.authorization(&credentials, id(&credentials, 0), Instant::now()).expect("a value");
        let token = mint(credentials.entry(id(&credentials, 0))).expect("minted");
        let traces = cache.traces(id(&credentials, 0));
        let debug = format!("{credentials:?} {cache:?} {token:?} {traces:?} {:?}", TokenError::Signature);
        assert!(debug.contains("[REDACTED]"));
        assert!(!debug.contains("hunter2") && !debug.contains("eyJ"), "{debug}");
    }
}
