//! The audit at the end of every test: one end and one status file for every accepted file.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::place::Place;

const FATES: [&str; 5] = ["delivered", "duplicate", "refused", "expired", "superseded"];

impl Place {
    /// With the daemon down: the ledger is in balance, ids are unique, every final one has exactly one
    /// status file that tells the same, and its file is filed.
    #[track_caller]
    pub(crate) fn audit(&self) {
        let status = self.status();
        assert_eq!(status["running"], false, "{status:#}");
        assert_eq!(status["unaccounted"], 0, "{status:#}");
        let history = self.history();
        let mut ids = BTreeSet::new();
        let mut told: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for status in self.statuses() {
            told.entry(text(&status, "id")).or_default().push(status);
        }
        for row in &history {
            let id = text(row, "id");
            assert!(id.len() == 16 && ids.insert(id.clone()), "id {id:?} is odd or came twice");
            let fate = text(row, "fate");
            if fate == "pending" {
                continue;
            }
            assert!(FATES.contains(&fate.as_str()), "{row:#}");
            let files = told.get(&id).map_or(&[][..], Vec::as_slice);
            assert_eq!(files.len(), 1, "one status file for {row:#}");
            check_final(row);
            check_final(&files[0]);
            for key in ["intent_file", "fate", "reason", "sha256", "target", "accepted_at"] {
                assert_eq!(files[0].get(key), row.get(key), "{key} of file and ledger: {row:#}");
            }
            // The ledger keeps what was reached; what somebody else made of it, only the status file tells.
            let (told, reached) = (&files[0]["remote"], &row["remote"]);
            match reached["lifecycle"].as_str() {
                Some("Draft" | "Proposed") => {
                    assert_eq!(told["name"], reached["name"], "name of file and ledger: {row:#}");
                }
                _ => assert_eq!(told, reached, "remote of file and ledger: {row:#}"),
            }
        }
        let strangers: Vec<_> = told.keys().filter(|id| !ids.contains(*id)).collect();
        assert!(strangers.is_empty(), "status files that the ledger does not know: {strangers:?}");
    }

    /// Revision and last replicas of every package against the ledger and what was dropped.
    ///
    /// `dropped` tells for each name the deployment in `ran-a` and the count it asks for; `None` for a
    /// malformed file. Every name must have come to exactly one end.
    #[track_caller]
    pub(crate) fn compare(&self, dropped: &BTreeMap<String, Option<(String, u32)>>) {
        let mut ended: BTreeMap<String, String> = BTreeMap::new();
        let mut packages: BTreeMap<&str, (u64, u32)> = BTreeMap::new();
        for row in self.history() {
            let (name, fate) = (text(&row, "intent_file"), text(&row, "fate"));
            let wanted = dropped.get(&name).unwrap_or_else(|| panic!("nobody dropped {name}"));
            match wanted {
                None => assert_eq!(fate, "refused", "{row:#}"),
                Some((target, replicas)) if fate == "delivered" => {
                    let package = packages.entry(target).or_default();
                    *package = (package.0 + 1, *replicas);
                }
                Some(_) => {
                    assert_eq!(
                        row["reason"], "older-than-applied",
                        "neither delivered nor overtaken: {row:#}"
                    );
                }
            }
            let before = ended.insert(name.clone(), fate);
            assert!(before.is_none(), "{name} came to two ends, {before:?} and {row:#}");
        }
        let lost: Vec<_> = dropped.keys().filter(|name| !ended.contains_key(*name)).collect();
        assert!(lost.is_empty(), "{} files without an end: {:?}", lost.len(), &lost[..lost.len().min(5)]);
        for (target, (delivered, replicas)) in packages {
            let workload = self.deployment(target);
            assert_eq!(workload.revision, delivered, "revision of {target} against its delivered intents");
            assert_eq!(
                workload.replicas,
                Some(u64::from(replicas)),
                "replicas of {target} against its last one"
            );
        }
    }
}

fn text(document: &Value, key: &str) -> String {
    document[key].as_str().unwrap_or_else(|| panic!("{key} is missing in {document:#}")).to_owned()
}

/// What a final document must carry, by fate (`status/v1`).
#[track_caller]
fn check_final(document: &Value) {
    let fate = text(document, "fate");
    let mut keys = vec!["accepted_at", "finished_at"];
    if fate != "refused" {
        keys.extend(["sha256", "proof", "target"]);
    }
    if fate == "delivered" {
        keys.extend(["sink", "remote", "attempts"]);
    }
    if fate == "refused" || fate == "expired" {
        keys.push("reason");
    }
    for key in keys {
        assert!(document.get(key).is_some_and(|value| !value.is_null()), "{key} is missing in {document:#}");
    }
    let success = !(fate == "refused" || fate == "expired");
    assert_eq!(document["status"], if success { "success" } else { "failed" }, "{document:#}");
}
