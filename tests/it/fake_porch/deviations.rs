//! Where the fake is not the real server, each with its reason.

const UPGRADE: &str = "the client never upgrades, and the fake refuses the task";

const PARSER: &str = "the fake reads YAML and JSON with another parser, so the text behind the class differs";
const FUNCTIONS: &str = "functions that the real server has built in change nothing in the fake";
const AUTHOR: &str =
    "the fake keeps no author of a publication; the real one reads it back from git, at times";
const CUT: &str = "the recording was cut to the first item of a long list that other recordings filled";
const HEAD: &str = "the real server reads a placeholder back from git without its task, at times";

/// The place of a difference in the code of an answer.
pub(super) const CODE: &str = "code";

/// Differences that are tolerated: step (`*` for all), the place or how it begins, reason. One that is met no
/// more fails the test.
pub(super) const TOLERATED: [(&str, &str, &str); 32] = [
    ("upgrade-to-unpublished-upstream", "", UPGRADE),
    ("upgrade-resource-merge", "", UPGRADE),
    ("upgrade-missing-upstream", "", UPGRADE),
    ("upgrade-bad-strategy", "", UPGRADE),
    ("upgrade-fast-forward", "", UPGRADE),
    ("upgrade-force-delete-replace", "", UPGRADE),
    ("*", "/status/publishedBy", AUTHOR),
    ("put-kptfile-bad-yaml", "/message", PARSER),
    ("put-kptfile-bad-yaml", "/details/causes/0/message", PARSER),
    ("put-bad-yaml", "/message", PARSER),
    ("put-bad-yaml", "/details/causes/0/message", PARSER),
    ("put-loose-json-invalid", "/message", PARSER),
    ("put-loose-json-invalid", "/details/causes/0/message", PARSER),
    ("malformed-json", "/message", PARSER),
    ("put-set-namespace", "/spec/resources/deployment.yaml", FUNCTIONS),
    ("put-set-namespace", "/status/renderStatus", FUNCTIONS),
    ("put-apply-replacements-v0.1.1", "/spec/resources/deployment.yaml", FUNCTIONS),
    ("put-apply-replacements-v0.1.1", "/status/renderStatus", FUNCTIONS),
    ("list ?fieldSelector=spec.repository=err3 (items=34; first kept)", "/items/", CUT),
    ("list ?limit=1 (items=116; first kept)", "/items/", CUT),
    ("list ?resourceVersion=0&limit=1 (items=116; first kept)", "/items/", CUT),
    ("list ?resourceVersion=0&resourceVersionMatch=NotOlderThan (items=116; first kept)", "/items/", CUT),
    ("list ?continue=abc&limit=1 (items=116; first kept)", "/items/", CUT),
    ("fieldSelector spec.revision=abc", "/items/", "the real server takes what is no number for -1"),
    ("fieldSelector spec.packageName=sel", "/items/#", CUT),
    ("fieldSelector spec.packageName==sel,spec.repository=err3", "/items/#", CUT),
    ("fieldSelector metadata.namespace=default,spec.packageName=sel", "/items/#", CUT),
    ("labelSelector !team", "/items/#", CUT),
    ("resources list by packageName", "/items/#", CUT),
    ("list-in-gd-dup", "/items/0/spec/tasks", HEAD),
    ("list-in-gd-dup", "/items/0/status/publishedBy", AUTHOR),
    ("list-in-gd-dup", "/items/1/status/publishedBy", AUTHOR),
];
