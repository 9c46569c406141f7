//! Words about servers: times, what to do after a fault, and nothing secret.

use std::time::Duration;

use crate::submit::porch::api::{Class, Fault};

/// `3 ms`, `2.4 s`.
pub(super) fn took(time: Duration) -> String {
    match time.as_millis() {
        millis @ 0..1_000 => format!("{millis} ms"),
        _ => format!("{:.1} s", time.as_secs_f64()),
    }
}

/// A text without what stands before the `@` of a URL: a password.
pub(super) fn unlinked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (head, tail) = rest.split_at(at + 3);
        out.push_str(head);
        let end =
            tail.find(|c: char| c == '/' || c == '"' || c == '\'' || c.is_whitespace()).unwrap_or(tail.len());
        rest = tail[..end].rfind('@').map_or(tail, |at| &tail[at + 1..]);
    }
    out + rest
}

/// What to do about a server that did not answer as hoped.
pub(super) fn advice(fault: &Fault) -> &'static str {
    let says = |text: &str| fault.message.contains(text);
    match fault.class {
        Class::Tls if says("UnknownIssuer") || says("BadSignature") => {
            "name the authority that signed the server's certificate: certificate-authority in the kubeconfig, or \
             sink.porch.ca_file"
        }
        Class::Tls if says("expired") || says("Expired") || says("not valid yet") => {
            "renew the server's certificate, or set the clock of this machine"
        }
        Class::Tls if says("not valid for name") || says("NotValidForName") => {
            "address the server by a name that its certificate is for"
        }
        Class::Tls => "see what the server speaks there, and which certificates it shows and wants",
        Class::Auth if fault.code == 401 => {
            "renew the credential (kubectl create token): it expired or was revoked"
        }
        Class::Auth => "grant the right that it names",
        Class::Unavailable | Class::TimedOut | Class::Unknown if fault.code == 0 => {
            "see whether it is up, its address right and the way open (name server, route, firewall); intents are \
             accepted, wait and are delivered when it answers"
        }
        Class::Protocol | Class::Redirected => {
            "somebody else answers there: correct the address of the server"
        }
        Class::Throttled => "it asks for fewer requests: try again later",
        Class::Migrated => "use a repository without that annotation: this version speaks v1alpha1 alone",
        _ => "look into the server's log; intents wait meanwhile and are delivered when it answers",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_a_url_is_not_shown() {
        let told =
            unlinked("cannot fetch \"https://bot:tok-1@git.example/a.git\": see ssh://git@git.example/b@2");
        assert_eq!(told, "cannot fetch \"https://git.example/a.git\": see ssh://git.example/b@2");
        assert_eq!(unlinked("no link"), "no link");
    }

    #[test]
    fn times_are_told_in_a_unit_that_people_use() {
        assert_eq!(
            [0, 999, 1_000, 2_449].map(|millis| took(Duration::from_millis(millis))),
            ["0 ms", "999 ms", "1.0 s", "2.4 s"]
        );
    }
}
