//! What a fault means for one custom resource (`reliability.md` 5).
//!
//! Only what is certainly about the content refuses an intent: a malformed or invalid object, and the
//! refusal of an admission policy. Everything else is the cluster's trouble, and the intent waits.

use crate::fate::Reason;
use crate::submit::porch::api::{Class, Fault};

/// How a request that failed goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// An object of this name exists: whose is it?
    Taken,
    /// The object may have been made: ask.
    Ask,
    /// The namespace is missing or going away. The intent named it, so it waits for a bounded time only.
    NoPlace,
    /// The content is refused for good.
    Refused,
    /// Nothing was made; the advice follows the server's message.
    Wait(Reason, &'static str),
}

struct Rule {
    code: u16,
    /// What the message contains.
    text: &'static str,
    verdict: Verdict,
}

const fn rule(code: u16, text: &'static str, verdict: Verdict) -> Rule {
    Rule { code, text, verdict }
}

const INSTALL: Verdict = Verdict::Wait(
    Reason::SinkUnavailable,
    "; the cluster does not know NetworkIntent: install the CRD (kubectl apply -k config/kubernetes)",
);
const OTHER_KIND: Verdict = Verdict::Wait(
    Reason::SinkUnavailable,
    "; the cluster's NetworkIntent is another one: install the CRD (kubectl apply -k config/kubernetes)",
);
const QUOTA: Verdict = Verdict::Wait(Reason::SinkUnavailable, "; raise the ResourceQuota of the namespace");
const RIGHTS: Verdict = Verdict::Wait(
    Reason::SinkAuth,
    "; renew the credential, or grant get and create on networkintents.intent.nephoran.com",
);
const THROTTLED: Verdict = Verdict::Wait(Reason::SinkThrottled, "");
const TROUBLE: Verdict = Verdict::Wait(Reason::SinkUnavailable, "");

/// The first that fits decides: a text that says more stands before one that says less.
const RULES: &[Rule] = &[
    rule(409, "already exists", Verdict::Taken),
    rule(400, "strict decoding error", OTHER_KIND),
    rule(400, "", Verdict::Refused),
    rule(413, "", Verdict::Refused),
    rule(415, "", Verdict::Refused),
    rule(422, "", Verdict::Refused),
    rule(401, "", RIGHTS),
    rule(403, "because it is being terminated", Verdict::NoPlace),
    rule(403, "exceeded quota", QUOTA),
    rule(403, "denied request", Verdict::Refused),
    rule(403, "denied the request", Verdict::Refused),
    rule(403, "", RIGHTS),
    rule(404, "namespaces \"", Verdict::NoPlace),
    rule(404, "(get namespaces ", Verdict::NoPlace),
    rule(404, "could not find the requested resource", INSTALL),
    rule(404, "404 page not found", INSTALL),
    rule(429, "", THROTTLED),
    rule(500, "failed calling webhook", TROUBLE),
];

/// How to go on after `fault`.
pub(super) fn verdict(fault: &Fault) -> Verdict {
    if let Some(rule) = RULES.iter().find(|rule| rule.code == fault.code && fault.message.contains(rule.text))
    {
        return rule.verdict;
    }
    match fault.class {
        Class::Tls => Verdict::Wait(
            Reason::SinkUnavailable,
            "; correct the certificate, or the authority in the kubeconfig",
        ),
        // Our own word about the credential, which says by itself what to do.
        Class::Auth if fault.code == 0 => Verdict::Wait(Reason::SinkAuth, ""),
        Class::Auth => RIGHTS,
        Class::Throttled => THROTTLED,
        // Refused before it was sent, or for a reason that is not about the content.
        Class::Unavailable if fault.code == 0 => TROUBLE,
        Class::Configuration | Class::Missing | Class::Content | Class::InProgress => TROUBLE,
        _ => Verdict::Ask,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rustfmt::skip] // one answer a line
    const ANSWERS: &[(u16, &str, Class, Verdict)] = &[
        (409, "networkintents.intent.nephoran.com \"intent-nf-1\" already exists", Class::InProgress, Verdict::Taken),
        (409, "Operation cannot be fulfilled on namespaces \"a\"", Class::InProgress, TROUBLE),
        (400, "NetworkIntent in version \"v1alpha1\" cannot be handled as a NetworkIntent: strict decoding error: unknown field \"spec.replicas\"", Class::Content, OTHER_KIND),
        (400, "the object provided is unrecognized", Class::Content, Verdict::Refused),
        (413, "Request entity too large: limit is 3145728", Class::Content, Verdict::Refused),
        (422, "NetworkIntent.intent.nephoran.com \"x\" is invalid: spec.replicas: Invalid value: 500", Class::Content, Verdict::Refused),
        (401, "Unauthorized", Class::Auth, RIGHTS),
        (403, "networkintents.intent.nephoran.com is forbidden: User \"c\" cannot create resource \"networkintents\" in API group \"intent.nephoran.com\" in the namespace \"a\"", Class::Auth, RIGHTS),
        (403, "networkintents.intent.nephoran.com \"x\" is forbidden: unable to create new content in namespace a because it is being terminated", Class::Auth, Verdict::NoPlace),
        (403, "networkintents.intent.nephoran.com \"x\" is forbidden: exceeded quota: q, requested: count/networkintents.intent.nephoran.com=1", Class::Auth, QUOTA),
        (403, "admission webhook \"p.example.org\" denied the request: no scaling on Sundays", Class::Auth, Verdict::Refused),
        (403, "networkintents.intent.nephoran.com \"x\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: replicas", Class::Auth, Verdict::Refused),
        (404, "namespaces \"a\" not found", Class::Configuration, Verdict::NoPlace),
        (404, "the server could not find the requested resource (get namespaces a)", Class::Configuration, Verdict::NoPlace),
        (404, "the server could not find the requested resource", Class::Configuration, INSTALL),
        (404, "404 page not found", Class::Configuration, INSTALL),
        (405, "the server does not allow this method on the requested resource", Class::Content, TROUBLE),
        (429, "too many requests", Class::Throttled, THROTTLED),
        (500, "Internal error occurred: failed calling webhook \"p\": connection refused", Class::Unknown, TROUBLE),
        (500, "etcdserver: request timed out", Class::Unknown, Verdict::Ask),
        (502, "Bad Gateway", Class::Unknown, Verdict::Ask),
        (503, "the server is currently unable to handle the request", Class::Unavailable, Verdict::Ask),
        (504, "Timeout: request did not complete within the allotted timeout", Class::Unknown, Verdict::Ask),
        (503, "overloaded", Class::Throttled, THROTTLED),
        (0, "connection reset by peer", Class::Unknown, Verdict::Ask),
        (0, "connection refused", Class::Unavailable, TROUBLE),
        (200, "the answer is not the object asked for", Class::Protocol, Verdict::Ask),
        (302, "", Class::Redirected, Verdict::Ask),
        (0, "no whole answer within 65 s", Class::TimedOut, Verdict::Ask),
        (0, "kubeconfig /k cannot be read", Class::Configuration, TROUBLE),
        (0, "kubeconfig /k: a plug-in", Class::Auth, Verdict::Wait(Reason::SinkAuth, "")),
    ];

    #[test]
    fn every_known_answer_has_its_verdict() {
        for (code, message, class, expected) in ANSWERS {
            let fault = Fault { class: *class, code: *code, message: (*message).to_owned(), after: None };
            assert_eq!(verdict(&fault), *expected, "{code} {message}");
        }
    }

    #[test]
    fn a_certificate_that_is_not_trusted_is_the_operators() {
        let fault = Fault { class: Class::Tls, code: 0, message: "unknown issuer".into(), after: None };
        assert!(
            matches!(verdict(&fault), Verdict::Wait(Reason::SinkUnavailable, advice) if advice.contains("certificate"))
        );
    }
}
