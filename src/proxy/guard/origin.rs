//! The page that makes a request, as its browser names it (Fetch Standard, "`Origin` header" and Fetch Metadata).
//!
//! A leaf: the refusal of a request whose page is not allowed is up to the guard.

use crate::config::Origin;
use crate::http1::fields::Known;
use crate::http1::head::Field;

/// One of the allowed origins, by its index: `config` limits their number to 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AllowedOrigin(pub(super) u8);

/// The fields of a head that name the host it calls and the page it comes from; see [`Caller::note`].
#[derive(Default)]
pub struct Caller<'h> {
    pub host: Option<&'h [u8]>,
    origin: Option<&'h [u8]>,
    fetch_site: Option<&'h [u8]>,
    /// A field was repeated, which no browser does.
    is_ambiguous: bool,
}

/// The page that makes a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallingPage {
    /// No page makes it: a program does, or a person who typed the address.
    None,
    Allowed(AllowedOrigin),
    NotAllowed,
}

impl AllowedOrigin {
    /// Returns its text, given the list in which it was found.
    pub fn text(self, allowed: &[Origin]) -> &str {
        allowed[usize::from(self.0)].as_str()
    }
}

impl<'h> Caller<'h> {
    /// Notes a field of the head; called for each of them in the one pass over a head's fields.
    pub fn note(&mut self, known: Known, field: &Field<'h>) {
        let place = match known {
            Known::Origin => &mut self.origin,
            Known::SecFetchSite => &mut self.fetch_site,
            _ => return,
        };
        self.is_ambiguous |= place.replace(field.value).is_some();
    }

    /// Returns whether a page of the very host that the request calls makes it. Both schemes count: a proxy may speak TLS
    /// before a listener that does not.
    pub fn is_of_this_host(&self) -> bool {
        let (Some(host), Some(origin)) = (self.host, self.origin) else { return false };
        let authority = [&b"http://"[..], b"https://"].into_iter().find_map(|scheme| origin.strip_prefix(scheme));
        let is_of_host = authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host));
        is_of_host && !self.is_ambiguous && matches!(self.fetch_site, None | Some(b"same-origin"))
    }

    /// Finds the page's origin among the `allowed` ones.
    pub fn page(&self, allowed: &[Origin]) -> CallingPage {
        if self.is_ambiguous {
            return CallingPage::NotAllowed;
        }
        match (self.origin, self.fetch_site) {
            (None, None) => CallingPage::None,
            (Some(origin), _) => {
                let place = allowed.iter().position(|allowed| allowed.as_str().as_bytes() == origin);
                place.map_or(CallingPage::NotAllowed, |place| CallingPage::Allowed(AllowedOrigin(place as u8)))
            }
            // Without `Origin`: images, links and such. An address that a person typed is `none`. `same-site` is
            // refused too: all ports of a machine are one site.
            (None, Some(b"none" | b"same-origin")) => CallingPage::None,
            (None, Some(_)) => CallingPage::NotAllowed,
        }
    }
}
