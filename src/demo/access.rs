//! The check of a request's token: the credential that it belongs to.
//!
//! Invariant: a token counts only when its signature and all of its claims are one credential's.

use http::HeaderMap;
use http::header::AUTHORIZATION;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;

use super::flow::DemoCredential;

/// The claims of a Flow token. Flow's tokens hold no times.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DemoClaims {
    client_id: String,
    client_secret: String,
    tenant: String,
}

/// The credentials whose tokens are accepted.
pub struct Access {
    known: Vec<(DemoCredential, DecodingKey)>,
    validation: Validation,
}

impl Access {
    pub fn new(credentials: &[DemoCredential]) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        let key = |credential: &DemoCredential| DecodingKey::from_secret(credential.client_secret.as_bytes());
        let known = credentials.iter().map(|credential| (credential.clone(), key(credential))).collect();
        Access { known, validation }
    }

    /// Returns the credentials whose tokens are accepted.
    pub fn credentials(&self) -> impl Iterator<Item = &DemoCredential> {
        self.known.iter().map(|(credential, _)| credential)
    }

    /// Returns the `clientId` of the credential that signed the request's one bearer token.
    ///
    /// # Errors
    /// The text of the 401 for the caller.
    pub fn check(&self, headers: &HeaderMap) -> Result<&str, &'static str> {
        let mut fields = headers.get_all(AUTHORIZATION).iter();
        let token = match (fields.next(), fields.next()) {
            (None, _) => return Err("No api key passed in."),
            (Some(_), Some(_)) => return Err("More than one Authorization field passed in."),
            (Some(value), None) => value.to_str().ok().and_then(|value| value.strip_prefix("Bearer ")),
        };
        let token = token.ok_or("Malformed API Key passed in. Expected `Bearer <token>`.")?;
        self.known
            .iter()
            .find(|(credential, key)| self.belongs(token, credential, key))
            .map(|(credential, _)| credential.client_id.as_str())
            .ok_or("Invalid proxy server token passed. Its signature or its claims fit no credential.")
    }

    fn belongs(&self, token: &str, credential: &DemoCredential, key: &DecodingKey) -> bool {
        jsonwebtoken::decode::<DemoClaims>(token, key, &self.validation).is_ok_and(|token| {
            let claims = token.claims;
            claims.client_id == credential.client_id
                && claims.client_secret == credential.client_secret
                && claims.tenant == credential.tenant
        })
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::json;

    use super::*;

    fn credential(name: &str) -> DemoCredential {
        DemoCredential {
            client_id: format!("demo-{name}"),
            client_secret: format!("{name}-secret-of-at-least-32-characters"),
            tenant: "demo".to_owned(),
        }
    }

    fn token(credential: &DemoCredential, secret: &str, tenant: &str) -> String {
        let claims =
            json!({"clientId": credential.client_id, "clientSecret": credential.client_secret, "tenant": tenant});
        encode(&Header::default(), &claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
    }

    fn check(fields: &[String]) -> Result<String, &'static str> {
        let access = Access::new(&[credential("alice"), credential("bob")]);
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(AUTHORIZATION, field.parse().unwrap());
        }
        access.check(&headers).map(str::to_owned)
    }

    #[test]
    fn a_token_is_traced_to_the_credential_that_signed_it() {
        let bob = credential("bob");
        let field = format!("Bearer {}", token(&bob, &bob.client_secret, "demo"));
        assert_eq!(check(&[field]), Ok("demo-bob".to_owned()));
    }

    #[test]
    fn a_wrong_signature_or_a_foreign_claim_is_refused() {
        let bob = credential("bob");
        let forged = token(&bob, "another-secret-of-at-least-32-characters", "demo");
        let foreign = token(&bob, &bob.client_secret, "elsewhere");
        let stolen = token(&bob, &credential("alice").client_secret, "demo");
        for token in [forged, foreign, stolen, "a.b.c".to_owned(), String::new()] {
            assert!(check(&[format!("Bearer {token}")]).is_err(), "{token}");
        }
    }

    #[test]
    fn the_field_must_be_there_once_and_be_a_bearer_token() {
        let bob = credential("bob");
        let bare = token(&bob, &bob.client_secret, "demo");
        let field = format!("Bearer {bare}");
        assert!(check(&[]).is_err());
        assert!(check(&[bare]).is_err());
        assert!(check(&[field.clone(), field]).is_err());
    }
}
