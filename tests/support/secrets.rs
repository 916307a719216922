//! The credentials of tests, and every form in which one of their secrets could leak.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

/// A part of every secret of every test, for the search through all output.
pub const SECRET_MARK: &str = "is-kept-from-all-output";

/// One entry of a secrets file.
#[derive(Debug, Clone, PartialEq)]
pub struct Credential {
    pub client_id: String,
    pub client_secret: String,
    pub tenant: String,
}

impl Credential {
    /// Returns the credential of this name, the same in every test.
    pub fn named(name: &str) -> Self {
        Self {
            client_id: format!("{name}-client-id"),
            client_secret: format!("the-secret-of-{name}-{SECRET_MARK}"),
            tenant: format!("{name}-tenant"),
        }
    }

    /// Parses the entries of a secrets file without comments.
    pub fn all_of(secrets_json: &str) -> Vec<Self> {
        let entries: Vec<Value> = serde_json::from_str(secrets_json).expect("a JSON array");
        let text = |entry: &Value, field: &str| entry[field].as_str().unwrap_or_default().to_owned();
        let credential = |entry: &Value| Self {
            client_id: text(entry, "clientId"),
            client_secret: text(entry, "clientSecret"),
            tenant: text(entry, "tenant"),
        };
        entries.iter().map(credential).collect()
    }

    /// Parses an `Authorization` value, checks its signature, and returns whose it is.
    pub fn of_authorization(value: &str) -> Self {
        let token = value.strip_prefix("Bearer ").expect("a bearer token");
        let (signed, signature) = token.rsplit_once('.').expect("a signature");
        let (header, claims) = signed.split_once('.').expect("a header and claims");
        let decoded = |part: &str| -> Value {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64url")).expect("JSON")
        };
        assert_eq!(decoded(header), json!({"alg": "HS256", "typ": "JWT"}));
        let claims = decoded(claims);
        let text = |field: &str| claims[field].as_str().expect("a string").to_owned();
        let credential =
            Self { client_id: text("clientId"), client_secret: text("clientSecret"), tenant: text("tenant") };
        assert_eq!(claims.as_object().expect("an object").len(), 3, "other claims than the three");
        assert_eq!(signature, credential.signature(signed), "the signature is not the credential's");
        credential
    }

    fn signature(&self, signed: &str) -> String {
        let key = EncodingKey::from_secret(self.client_secret.as_bytes());
        jsonwebtoken::crypto::sign(signed.as_bytes(), &key, Algorithm::HS256).expect("HMAC takes every key")
    }

    fn entry(&self, name: &str) -> Value {
        json!({"name": name, "clientId": self.client_id, "clientSecret": self.client_secret, "tenant": self.tenant})
    }

    /// Returns the texts that no output may hold: the secret, its base64 forms at any offset, token and signature.
    fn traces(&self) -> Vec<String> {
        let header = URL_SAFE_NO_PAD.encode(br#"{"alg":"HS256","typ":"JWT"}"#);
        let string = |text: &str| serde_json::to_string(text).expect("a string");
        let claims = URL_SAFE_NO_PAD.encode(format!(
            r#"{{"clientId":{},"clientSecret":{},"tenant":{}}}"#,
            string(&self.client_id),
            string(&self.client_secret),
            string(&self.tenant),
        ));
        let signed = format!("{header}.{claims}");
        let signature = self.signature(&signed);
        let mut traces = secret_traces(&self.client_secret);
        traces.extend([signature, signed]);
        traces
    }
}

/// Returns a secrets file with one entry for each name.
pub fn secrets_json(names: &[&str]) -> String {
    let entries: Vec<Value> = names.iter().map(|name| Credential::named(name).entry(name)).collect();
    serde_json::to_string_pretty(&entries).expect("JSON")
}

/// Returns all texts that no output may hold of a gateway with these credentials, which also sent these tokens.
pub fn traces_of(credentials: &[Credential], sent_authorizations: &[String]) -> Vec<String> {
    let mut traces: Vec<String> = credentials.iter().flat_map(Credential::traces).collect();
    for authorization in sent_authorizations {
        let token = authorization.strip_prefix("Bearer ").unwrap_or(authorization);
        traces.extend(token.split('.').skip(1).map(str::to_owned));
    }
    // Shorter ones are found by chance.
    traces.retain(|trace| trace.len() >= 8);
    traces
}

/// Returns a secret as it is, and in base64 from each of the three offsets in a group at which it may begin.
pub fn secret_traces(secret: &str) -> Vec<String> {
    let mut traces = vec![secret.to_owned()];
    for shift in 0..3 {
        let shifted = [vec![0; shift], secret.as_bytes().to_vec()].concat();
        // The first and the last character also hold bits of their neighbours: only the others are the secret's alone.
        let first = (shift * 8).div_ceil(6);
        let last = shifted.len() * 8 / 6;
        traces.push(URL_SAFE_NO_PAD.encode(&shifted)[first..last].to_owned());
        traces.push(STANDARD_NO_PAD.encode(&shifted)[first..last].to_owned());
    }
    traces
}

/// Returns the first of `traces` that `output` holds, described without its text.
pub fn leak_in(output: &[u8], traces: &[String]) -> Option<String> {
    traces.iter().enumerate().find_map(|(index, trace)| {
        let at = memchr::memmem::find(output, trace.as_bytes())?;
        let line = output[..at].iter().filter(|&&byte| byte == b'\n').count() + 1;
        Some(format!("secret text {index} of {} ({} characters) in line {line}", traces.len(), trace.len()))
    })
}
