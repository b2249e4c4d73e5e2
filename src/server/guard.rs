//! Access control: only this machine's own pages and programs, with a key if one is set.
//!
//! Any web page can make a browser send requests to localhost. The `Host` header reveals a name that was rebound to
//! 127.0.0.1 (DNS rebinding), `Origin` a page of another site; both are refused.

use super::http::Request;
use std::net::IpAddr;

/// The access rules of a server.
pub struct Guard {
    /// Whether the server listens on loopback only.
    loopback: bool,
    /// The name or address it was told to listen on, and other names that lead here.
    names: Vec<String>,
    keys: Vec<String>,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The `Host` header names another machine.
    Host,
    /// The request comes from another site's page.
    Origin,
    /// No key, or a wrong one.
    Key,
}

impl Guard {
    /// The rules for a server on `host` that a proxy or a network also knows by the names `allowed`, with keys if any are
    /// set.
    #[must_use]
    pub fn new(host: &str, allowed: &[String], loopback: bool, keys: Vec<String>) -> Self {
        let names = std::iter::once(host).chain(allowed.iter().map(String::as_str));
        Self { loopback, names: names.map(str::to_ascii_lowercase).collect(), keys }
    }

    /// Checks where a request comes from.
    ///
    /// # Errors
    /// The reason to refuse it.
    pub fn check_source(&self, request: &Request) -> Result<(), Refusal> {
        let host = request.header("host").unwrap_or("");
        if !self.is_own_name(host) {
            return Err(Refusal::Host);
        }
        match request.header("origin") {
            None => Ok(()),
            Some(origin) if is_same_origin(origin, host) => Ok(()),
            Some(_) => Err(Refusal::Origin),
        }
    }

    /// Checks the key of an API request.
    ///
    /// # Errors
    /// When keys are set and the request has none of them.
    pub fn check_key(&self, request: &Request) -> Result<(), Refusal> {
        if self.keys.is_empty() {
            return Ok(());
        }
        let bearer = request.header("authorization").and_then(|v| {
            let (scheme, key) = v.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
        });
        let given = bearer.or(request.header("x-api-key")).unwrap_or("");
        // Compare with all keys in full, so that timing reveals nothing about them.
        let found = self.keys.iter().fold(false, |found, key| found | same(key, given));
        if found { Ok(()) } else { Err(Refusal::Key) }
    }

    fn is_own_name(&self, host: &str) -> bool {
        let name = name_of(host).to_ascii_lowercase();
        if name == "localhost" || self.names.contains(&name) {
            return true;
        }
        match name.trim_matches(['[', ']']).parse::<IpAddr>() {
            // On a network, a machine has many addresses; a rebound name is never an address.
            Ok(address) => address.is_loopback() || !self.loopback,
            Err(_) => false,
        }
    }
}

/// The name in `name:port`; keeps the brackets of an IPv6 address.
fn name_of(authority: &str) -> &str {
    if authority.starts_with('[') {
        return authority.split_inclusive(']').next().unwrap_or(authority);
    }
    authority.split(':').next().unwrap_or(authority)
}

fn is_same_origin(origin: &str, host: &str) -> bool {
    let authority = origin.strip_prefix("http://").or(origin.strip_prefix("https://"));
    authority.is_some_and(|a| a.eq_ignore_ascii_case(host))
}

/// Comparison whose time depends only on the lengths.
fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |d, (a, b)| d | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_names_are_accepted_as_host() {
        let local = Guard::new("127.0.0.1", &[], true, Vec::new());
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "[::1]:8080", "127.1.2.3"] {
            assert!(local.is_own_name(host), "{host}");
        }
        for host in ["", "evil.example", "localhost.evil.example:8080", "192.168.1.5", "[fe80::1]"]
        {
            assert!(!local.is_own_name(host), "{host}");
        }
        let network = Guard::new("0.0.0.0", &[], false, Vec::new());
        assert!(network.is_own_name("192.168.1.5:8080"));
        assert!(!network.is_own_name("rebound.example"));
        let named = Guard::new("127.0.0.1", &["Tea.local".to_owned()], true, Vec::new());
        assert!(named.is_own_name("tea.LOCAL:443") && !named.is_own_name("192.168.1.5"));
        assert!(!named.is_own_name("x.tea.local"));
    }

    #[test]
    fn an_origin_must_be_the_page_itself() {
        assert!(is_same_origin("http://localhost:8080", "localhost:8080"));
        for origin in
            ["null", "http://localhost:9090", "http://evil.example", "file://", "http://localhost"]
        {
            assert!(!is_same_origin(origin, "localhost:8080"), "{origin}");
        }
    }
}
