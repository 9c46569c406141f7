//! What an answer of the server means.
//!
//! Nearly everything is a 500, so the text decides and the code only helps (`porch.md` 2.7). The order
//! below matters: a text that says more stands before one that says less. What is not recognised is
//! [`Class::Unknown`] for a 5xx (the request may have been carried out: ask) and [`Class::Content`] for
//! any other 4xx.

use std::time::Duration;

use super::api::Class;

/// Shortest and longest delay that is obeyed when the server asks for one (fault P07).
const AFTER: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(600));

struct Rule {
    /// 0: any code.
    code: u16,
    /// What the message contains; all of them.
    texts: &'static [&'static str],
    class: Class,
}

const fn rule(code: u16, texts: &'static [&'static str], class: Class) -> Rule {
    Rule { code, texts, class }
}

const RULES: &[Rule] = &[
    rule(500, &["workspaceNames must be unique"], Class::Exists),
    rule(500, &["cannot create a new revision for package", "that already exists"], Class::PackageExists),
    rule(500, &["package \"", "already exists in repository"], Class::PackageExists),
    rule(500, &["the object has been modified"], Class::Stale),
    rule(500, &["resourceVersion must be specified"], Class::Stale),
    rule(500, &["failed to close package revision draft", "is invalid"], Class::Content),
    rule(500, &["non-fast-forward update: refs/heads/drafts/"], Class::Phantom),
    rule(500, &["cannot find draft package branch"], Class::Phantom),
    rule(500, &["cannot find proposed package branch"], Class::Phantom),
    rule(500, &["refs/remotes/origin/", "reference not found"], Class::Phantom),
    rule(500, &["occurred: reference not found"], Class::Phantom),
    rule(500, &["function pipeline", "code = Unavailable"], Class::Unavailable),
    rule(500, &["rendering package in kpt function pipeline"], Class::Render),
    rule(500, &["failed to heal resources"], Class::Render),
    rule(500, &["input resource list must contain only KRM resources"], Class::Render),
    rule(500, &["package must contain Kptfile"], Class::Content),
    rule(500, &["package must be Draft"], Class::WrongStage),
    rule(500, &["source revision must be"], Class::BadSource),
    rule(500, &["cannot find package revision"], Class::BadSource),
    rule(500, &["cannot find git reference"], Class::BadSource),
    rule(500, &["packages cannot be nested"], Class::Content),
    rule(500, &["task list must not contain"], Class::Content),
    rule(500, &["fetch of remote repository"], Class::Unavailable),
    rule(500, &["error cloning git repository"], Class::Unavailable),
    rule(500, &["failed to update ref"], Class::Unavailable),
    rule(500, &["non-fast-forward"], Class::Unavailable),
    rule(500, &["kubernetes resource name invalid"], Class::Content),
    rule(409, &["already in progress"], Class::InProgress),
    rule(409, &[], Class::InProgress),
    rule(422, &["cannot approve package with Draft"], Class::WrongStage),
    rule(422, &["can only be updated to 'ProposeDeletion'"], Class::WrongStage),
    rule(422, &["can only update package with lifecycle"], Class::WrongStage),
    rule(403, &["not yet ready to handle request"], Class::Unavailable),
    rule(403, &["referenced as upstream by"], Class::BadSource),
    rule(403, &[], Class::Auth),
    rule(401, &[], Class::Auth),
    rule(404, &["repositories.config.porch.kpt.dev"], Class::Configuration),
    rule(404, &["namespaces \""], Class::Configuration),
    rule(404, &["get namespaces"], Class::Configuration),
    rule(404, &["could not find the requested resource"], Class::Configuration),
    rule(404, &["404 page not found"], Class::Configuration),
    rule(404, &["not found"], Class::Missing),
    rule(404, &[], Class::Configuration),
    rule(410, &[], Class::Migrated),
    rule(405, &[], Class::Configuration),
    rule(406, &[], Class::Configuration),
    rule(407, &[], Class::Configuration),
    rule(408, &[], Class::Unknown),
    rule(415, &[], Class::Configuration),
    rule(429, &[], Class::Throttled),
    rule(502, &[], Class::Unknown),
    rule(503, &[], Class::Unavailable),
    rule(504, &[], Class::Unknown),
];

/// What an error answer with this code and message means. `asked_to_wait`: it carried a `Retry-After`.
pub fn class(code: u16, message: &str, asked_to_wait: bool) -> Class {
    if code == 503 && asked_to_wait {
        return Class::Throttled;
    }
    let fits = |rule: &&Rule| {
        (rule.code == 0 || rule.code == code) && rule.texts.iter().all(|text| message.contains(text))
    };
    if let Some(rule) = RULES.iter().find(fits) {
        return rule.class;
    }
    match code {
        300..=399 => Class::Redirected,
        400..=499 => Class::Content,
        _ => Class::Unknown,
    }
}

/// The delay of a `Retry-After` header: seconds, or a date against `now` (seconds since 1970). Garbage is
/// no delay.
pub fn after(header: &str, now: i64) -> Option<Duration> {
    let header = header.trim();
    let asked = match header.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) if !header.is_empty() && header.bytes().all(|byte| byte.is_ascii_digit()) => AFTER.1,
        Err(_) => {
            let date = jiff::fmt::rfc2822::parse(header).ok()?;
            Duration::from_secs(u64::try_from(date.timestamp().as_second() - now).unwrap_or(0))
        }
    };
    Some(asked.clamp(AFTER.0, AFTER.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts as a running server (v1.5.8) and the aggregator before it gave them.
    #[rustfmt::skip] // one answer a line
    const ANSWERS: &[(u16, &str, Class)] = &[
        (500, "Internal error occurred: workspaceNames must be unique; package revision with name p in repo r with workspaceName w already exists", Class::Exists),
        (500, "Internal error occurred: package \"p\" already exists in repository \"r\"", Class::PackageExists),
        (500, "Internal error occurred: `clone` cannot create a new revision for package \"p\" that already exists in repo \"r\"; make subsequent revisions using `copy`", Class::PackageExists),
        (500, "Internal error occurred: Operation cannot be fulfilled on packagerevisions.porch.kpt.dev \"r.p.w\": the object has been modified; please apply your changes to the latest version and try again", Class::Stale),
        (500, "Internal error occurred: failed to close package revision draft: PackageRev.config.porch.kpt.dev \"r.p.w\" is invalid: metadata.labels: Invalid value", Class::Content),
        (500, "Internal error occurred: failed to close package revision draft: non-fast-forward update: refs/heads/drafts/p/w", Class::Phantom),
        (500, "Internal error occurred: cannot find draft package branch \"refs/remotes/origin/drafts/p/w\": reference not found", Class::Phantom),
        (500, "Internal error occurred: error rendering package in kpt function pipeline. Package NOT pushed to remote. Fix locally: fn.render: pkg /: input resource list must contain only KRM resources: x.json: resource must have `apiVersion`", Class::Render),
        (500, "Internal error occurred: error rendering package in kpt function pipeline: func eval: rpc error: code = Unavailable desc = connection error", Class::Unavailable),
        (500, "Internal error occurred: failed to heal resources: MalformedYAMLError: yaml: line 3", Class::Render),
        (500, "Internal error occurred: cannot update a package revision with lifecycle value \"Proposed\"; package must be Draft", Class::WrongStage),
        (500, "Internal error occurred: source revision must be published", Class::BadSource),
        (500, "Internal error occurred: fetch of remote repository default:r::main with retry failed: status code: 503", Class::Unavailable),
        (500, "Internal error occurred: something nobody has seen", Class::Unknown),
        (409, "Operation cannot be fulfilled on packagerevisions.porch.kpt.dev \"r.p.w\": another request is already in progress on package revision \"default/r.p.w\"", Class::InProgress),
        (422, "PackageRevision.porch.kpt.dev \"r.p.w\" is invalid: spec.lifecycle: Invalid value: \"Published\": cannot approve package with Draft lifecycle value; only Proposed packages can be approved", Class::WrongStage),
        (422, "spec.lifecycle: Invalid value: package with Published lifecycle value can only be updated to 'ProposeDeletion'", Class::WrongStage),
        (422, "spec.workspaceName: Invalid value: \"A\": must not contain dots", Class::Content),
        (403, "not yet ready to handle request", Class::Unavailable),
        (403, "packagerevisions.porch.kpt.dev is forbidden: User \"x\" cannot create resource", Class::Auth),
        (403, "cannot delete package revision, it is referenced as upstream by: r.q.w", Class::BadSource),
        (401, "Unauthorized", Class::Auth),
        (404, "repositories.config.porch.kpt.dev \"r\" not found", Class::Configuration),
        (404, "packagerevisions.porch.kpt.dev \"r.p.w\" not found", Class::Missing),
        (404, "the server could not find the requested resource", Class::Configuration),
        (405, "the server does not allow this method on the requested resource", Class::Configuration),
        (410, "gone", Class::Migrated),
        (415, "the body of the request was in an unknown format", Class::Configuration),
        (413, "Request entity too large: limit is 6291456", Class::Content),
        (429, "storage is (re)initializing", Class::Throttled),
        (503, "error trying to reach service: dial tcp 127.0.0.1:1: connect: connection refused", Class::Unavailable),
        (504, "Timeout: request did not complete within the allotted timeout", Class::Unknown),
        (302, "", Class::Redirected),
    ];

    #[test]
    fn every_known_answer_has_its_class() {
        for (code, message, expected) in ANSWERS {
            assert_eq!(class(*code, message, false), *expected, "{code} {message}");
        }
    }

    #[test]
    fn a_503_that_names_a_time_asks_for_fewer_requests() {
        assert_eq!(class(503, "overloaded", true), Class::Throttled);
    }

    #[test]
    fn a_delay_is_obeyed_within_bounds() {
        let seconds = |text| after(text, 1_000_000_000).map(|after| after.as_millis());
        assert_eq!(seconds("0"), Some(500));
        assert_eq!(seconds("5"), Some(5_000));
        assert_eq!(seconds("1000000000"), Some(600_000));
        assert_eq!(seconds("99999999999999999999999"), Some(600_000));
        assert_eq!(seconds("Sun, 09 Sep 2001 01:46:50 GMT"), Some(10_000));
        assert_eq!(seconds("Sun, 09 Sep 2001 01:46:30 GMT"), Some(500));
        for garbage in ["", "soon", "-1", "1.5", "\u{0}"] {
            assert_eq!(seconds(garbage), None, "{garbage:?}");
        }
    }
}
