//! The key table: every setting of this version with its meaning, range, default and field.
//!
//! A key stands here from the moment it works; until then it is unknown and a fault. Defaults are
//! not repeated here: they are what [`Config::default`] holds.

mod forms;

use std::ffi::OsStr;
use std::time::Duration;

use forms::{ADDRESS, GLOB, LABEL, REVISION, URL};

use super::kind::{Accepted, Kind, Limits, Raw, Wrong};
use super::model::{
    Approval, Archive, Coalesce, Config, DedupScope, ExecMode, LogFormat, OnUncertain, OpenProposal,
    PackageContent, PackageLayout, SandboxMode, StatusForm, UnknownFields, WatchMode,
};
use super::value::{Field, Value};

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its section, `sink.folder`.
    pub section: &'static str,
    /// Its name within the section.
    pub name: &'static str,
    /// What it does, in full sentences.
    pub meaning: &'static str,
    /// Type and range.
    pub kind: Kind,
    /// False if a reload (SIGHUP) takes a new value over.
    pub restart: bool,
    /// For keys whose default is no constant: what holds then, and a value to show in a sample.
    pub computed: Option<Computed>,
    field: fn(&mut Config) -> &mut dyn Field,
}

/// A default that depends on the machine or on other keys.
#[derive(Debug, Clone, Copy)]
pub struct Computed {
    /// What holds while the key is not set.
    pub default: &'static str,
    /// A value for the sample, in TOML.
    pub example: &'static str,
}

impl Key {
    const fn new(
        section: &'static str,
        name: &'static str,
        kind: Kind,
        field: fn(&mut Config) -> &mut dyn Field,
        meaning: &'static str,
    ) -> Key {
        Key { section, name, meaning, kind, restart: true, computed: None, field }
    }

    /// Every stage that reads it follows a reload.
    const fn live(mut self) -> Key {
        self.restart = false;
        self
    }

    const fn computed(mut self, default: &'static str, example: &'static str) -> Key {
        self.computed = Some(Computed { default, example });
        self
    }

    /// `sink.folder.out`.
    pub fn full(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }

    /// `CONDUCTOR_LOOP_SINK_FOLDER_OUT`.
    pub fn variable(&self) -> String {
        format!("CONDUCTOR_LOOP_{}_{}", self.section, self.name).replace(['.', '-'], "_").to_uppercase()
    }

    /// Its value in `config`.
    pub fn get(&self, config: &Config) -> Value {
        // The one accessor is mutable; settings are read through the table by commands alone.
        match ((self.field)(&mut config.clone()).get(), self.kind) {
            (Value::Number(bytes), Kind::Size(_)) => Value::Size(bytes),
            (value, _) => value,
        }
    }

    /// Puts `value` into `config`; false if it is of another type.
    pub(super) fn put(&self, config: &mut Config, value: Value) -> bool {
        (self.field)(config).put(value)
    }

    /// What to write, in TOML: the default, or an example where that is no constant.
    pub fn example(&self) -> String {
        match self.computed {
            Some(computed) => computed.example.into(),
            None => self.get(&Config::default()).to_string(),
        }
    }

    /// Judges `value` as typed on the command line, unquoted.
    ///
    /// # Errors
    ///
    /// What is wrong with it and what to write: `"fast" is not one of auto, inotify, poll`.
    pub fn check(&self, value: &OsStr) -> Result<(), String> {
        let judged = self.judge_loose(value).map(|_| ());
        judged.map_err(|wrongs| wrongs.into_iter().map(|wrong| wrong.text).collect::<Vec<_>>().join("; "))
    }

    /// Judges text from the command line or the environment.
    pub(super) fn judge_loose(&self, value: &OsStr) -> Result<Accepted, Vec<Wrong>> {
        self.kind.accept(&Raw::loose(&self.kind, value), &self.advice())
    }

    /// The same without quotes, as a refusal advises it.
    pub(super) fn advice(&self) -> String {
        self.example().trim_matches('"').into()
    }
}

/// The key of this full name.
pub fn find(full: &str) -> Option<&'static Key> {
    let (section, name) = full.rsplit_once('.')?;
    KEYS.iter().find(|key| key.section == section && key.name == name)
}

/// Whether `path` is a section, or the parent of one.
pub fn is_section(path: &str) -> bool {
    KEYS.iter().any(|key| {
        key.section.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

/// The full name that somebody who wrote `unknown` probably meant: the same name in another
/// section, else the nearest one within three changes.
pub fn nearest(unknown: &str) -> Option<String> {
    let last = unknown.rsplit('.').next().unwrap_or(unknown);
    let mut same = KEYS.iter().filter(|key| key.name == last);
    if let (Some(key), None) = (same.next(), same.next()) {
        return Some(key.full());
    }
    closest(unknown, KEYS.iter().map(Key::full))
}

/// The section that somebody who wrote `unknown` probably meant.
pub fn nearest_section(unknown: &str) -> Option<String> {
    closest(unknown, KEYS.iter().map(|key| key.section.to_string()))
}

/// The candidate at most three changes, and fewer than half its letters, away from `word`.
pub(super) fn closest(word: &str, candidates: impl Iterator<Item = String>) -> Option<String> {
    candidates
        .map(|candidate| (distance(word, &candidate), candidate))
        .filter(|(changes, candidate)| *changes <= 3 && changes * 2 < candidate.chars().count())
        .min_by_key(|(changes, _)| *changes)
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions and replacements between two words.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

const TARGET_KINDS: Kind =
    Kind::Word(&["deployment", "statefulset", "daemonset", "service", "configuration"]);
const LEVELS: &[&str] = &["error", "warn", "info", "debug", "trace"];
const SINKS: &[&str] = &["folder", "exec", "porch", "network-intent"];

/// Where a kubeconfig is looked for that no key names.
const KUBECONFIG: &str =
    "kubeconfig in $CREDENTIALS_DIRECTORY, $KUBECONFIG, ~/.kube/config, else the pod's own";

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;
const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
const TEN_YEARS: Duration = Duration::from_secs(3_650 * 86_400);

const fn times(unit: Duration, by: u32) -> Duration {
    unit.saturating_mul(by)
}

const fn count(least: u64, most: u64) -> Kind {
    Kind::Count(Limits::refuse(least, most))
}

const fn size(least: u64, most: u64) -> Kind {
    Kind::Size(Limits::refuse(least, most))
}

const fn time(least: Duration, most: Duration) -> Kind {
    Kind::Time { limits: Limits::refuse(least, most), or_zero: false }
}

const fn time_or_zero(least: Duration, most: Duration) -> Kind {
    Kind::Time { limits: Limits::refuse(least, most), or_zero: true }
}

/// Every key, in the order of the sample file.
#[rustfmt::skip] // one key: where it is and what it takes in the first line, what it means below
pub static KEYS: &[Key] = &[
    Key::new("watch", "handoff", Kind::Path, |c| &mut c.watch.handoff,
        "The folder into which intents are dropped. Created with mode 0750 if it is missing."),
    Key::new("watch", "pattern", Kind::Text(&GLOB), |c| &mut c.watch.pattern,
        "File names that are intents, as a glob (*, ?, [...]). Everything else is left alone."),
    Key::new("watch", "recursive", Kind::Flag, |c| &mut c.watch.recursive,
        "Look into sub-directories too."),
    Key::new("watch", "max_depth", count(1, 32), |c| &mut c.watch.max_depth,
        "How many levels of sub-directories are watched when watch.recursive is on."),
    Key::new("watch", "debounce",
        Kind::Time { limits: Limits::clamp(times(MILLI, 10), times(SECOND, 5)), or_zero: false },
        |c| &mut c.watch.debounce,
        "Quiet time after which a file counts as complete where no lease or rename proves it.").live(),
    Key::new("watch", "period", time_or_zero(times(MILLI, 100), HOUR), |c| &mut c.watch.period,
        "Time between scans of the whole folder; 0 means the default.").live(),
    Key::new("watch", "mode", Kind::Word(WatchMode::WORDS), |c| &mut c.watch.mode,
        "How new files are noticed: auto uses inotify where it works and polls elsewhere, poll scans every \
         2s, or every watch.period if that is shorter."),
    Key::new("intake", "workers", Kind::Count(Limits::clamp(1, 4_096)), |c| &mut c.intake.workers,
        "Threads that read and check files; at most 4 times the number of cores.")
        .computed("the smaller of 2 and the number of cores", "2"),
    Key::new("intake", "queue", count(16, 65_536), |c| &mut c.intake.queue,
        "Files that may wait for a worker, for each of the lanes fresh, backlog and large. When it is full \
         files stay in the folder and a scan finds them later."),
    Key::new("intake", "max_size", size(KIB, 64 * MIB), |c| &mut c.intake.max_size,
        "Largest accepted file.").live(),
    Key::new("intake", "max_depth", count(1, 100), |c| &mut c.intake.max_depth,
        "Deepest nesting of arrays and objects in a document.").live(),
    Key::new("intake", "max_values", count(16, 1_000_000), |c| &mut c.intake.max_values,
        "Most JSON values in a document.").live(),
    Key::new("intake", "unknown_fields", Kind::Word(UnknownFields::WORDS), |c| &mut c.intake.unknown_fields,
        "What becomes of a flat intent with unknown fields: refuse the file, or ignore the fields.").live(),
    Key::new("intake", "schema", Kind::Path, |c| &mut c.intake.schema,
        "A JSON Schema of your own that every document must satisfy beside the built-in rules; of a directory, \
         docs/contracts/intent.schema.json in it.")
        .computed("the built-in rules alone", "\"/etc/conductor-loop/intent.schema.json\"").live(),
    Key::new("intake", "map_above", size(4 * KIB, 1 << 30), |c| &mut c.intake.map_above,
        "Files above this size are mapped into memory, under a lease, instead of read."),
    Key::new("intake", "reserve", size(0, TIB), |c| &mut c.intake.reserve,
        "Free space below which nothing more is accepted; 5 % of the file system if that is less.").live(),
    Key::new("policy", "namespaces", Kind::List(&Kind::Text(&LABEL)), |c| &mut c.policy.namespaces,
        "Namespaces that intents may name; the empty list allows all.").live(),
    Key::new("policy", "kinds", Kind::List(&TARGET_KINDS), |c| &mut c.policy.kinds,
        "Target kinds that intents may name; the empty list allows all.").live(),
    Key::new("policy", "max_replicas", count(1, 100), |c| &mut c.policy.max_replicas,
        "Highest replica count that an intent may ask for.").live(),
    Key::new("ledger", "dir", Kind::Path, |c| &mut c.ledger.dir,
        "Directory of the ledger and its lock. It must not be a parent of the handoff folder.")
        .computed("$STATE_DIRECTORY, else .conductor in the handoff folder", "\"/var/lib/conductor-loop\""),
    Key::new("ledger", "dedup_scope", Kind::Word(DedupScope::WORDS), |c| &mut c.ledger.dedup_scope,
        "What makes a file a repeat: with name+content the same content as the newest intent of the same \
         name, with content the same content under any name."),
    Key::new("ledger", "dedup_window", time(SECOND, TEN_YEARS), |c| &mut c.ledger.dedup_window,
        "How long a repeat is recognised.").live(),
    Key::new("ledger", "dedup_keys", count(1, 50_000_000), |c| &mut c.ledger.dedup_keys,
        "How many intents are remembered for recognising repeats, at about 30 bytes of memory each."),
    Key::new("ledger", "keep_for", time(SECOND, TEN_YEARS), |c| &mut c.ledger.keep_for,
        "Age at which the record of a finished intent is removed.").live(),
    Key::new("ledger", "keep_intents", count(1, 1_000_000_000), |c| &mut c.ledger.keep_intents,
        "Most records of finished intents that are kept.").live(),
    Key::new("ledger", "max_size", size(MIB, TIB), |c| &mut c.ledger.max_size,
        "Size of the ledger on disk at which nothing more is accepted.").live(),
    Key::new("ledger", "checkpoint", time(times(MILLI, 100), times(SECOND, 600)),
        |c| &mut c.ledger.checkpoint,
        "Longest time between the flushes that make status files, packages and moves durable together.").live(),
    Key::new("sink", "kind", Kind::Word(SINKS), |c| &mut c.sink.kind,
        "Where accepted intents go: folder keeps packages in a directory, exec runs a command for each intent, \
         porch makes package revisions, network-intent makes custom resources."),
    Key::new("sink", "coalesce", Kind::Word(Coalesce::WORDS), |c| &mut c.sink.coalesce,
        "What becomes of an intent that still waits for the sink when a newer one for the same target comes: \
         latest ends it as superseded, off delivers every one.")
        .live()
        .computed("latest for porch, else off", "\"latest\""),
    Key::new("sink", "max_age", time_or_zero(SECOND, TEN_YEARS), |c| &mut c.sink.max_age,
        "How long an intent may wait for the sink before it ends as expired; 0 means for ever.").live(),
    Key::new("sink", "start_spread", time_or_zero(SECOND, HOUR), |c| &mut c.sink.start_spread,
        "After a start, what an earlier process left waiting for porch or network-intent is sent spread over this \
         time, so that many daemons that start together do not all send at once; 0 means at once."),
    Key::new("sink", "max_pending", count(1, 10_000_000), |c| &mut c.sink.max_pending,
        "Most intents that may wait for the sink; beyond it files stay in the folder.").live(),
    Key::new("sink", "max_pending_size", size(MIB, TIB), |c| &mut c.sink.max_pending_size,
        "Most bytes of intents that may wait for the sink; beyond it files stay in the folder.").live(),
    Key::new("sink.folder", "out", Kind::Path, |c| &mut c.sink.folder.out,
        "Where the folder sink keeps its packages, and what the exec sink hands to its command as -out. It must \
         not lie in the handoff folder."),
    Key::new("sink.exec", "command", Kind::Path, |c| &mut c.sink.exec.command,
        "The command of the exec sink, a path or a name in PATH, run as CMD -intent FILE -out DIR. Nobody but \
         root and the daemon's user may be able to write it.")
        .computed("none; the exec sink needs one", "\"porch\""),
    Key::new("sink.exec", "mode", Kind::Word(ExecMode::WORDS), |c| &mut c.sink.exec.mode,
        "How the command is run: structured adds -structured."),
    Key::new("sink.exec", "timeout", time(times(MILLI, 100), HOUR), |c| &mut c.sink.exec.timeout,
        "How long one run may take before the command and its children are killed."),
    Key::new("sink.exec", "attempts", count(1, 1_000), |c| &mut c.sink.exec.attempts,
        "Runs after which an intent is refused whose command timed out, was killed or asked to be run later \
         (exit 75, 124) each time. Any other exit code refuses it at once."),
    Key::new("sink.exec", "on_uncertain", Kind::Word(OnUncertain::WORDS), |c| &mut c.sink.exec.on_uncertain,
        "What becomes of an intent whose run may have had its effect (timed out, killed, daemon died): retry \
         runs the command again and marks the delivery as a possible duplicate, hold leaves it pending."),
    Key::new("sink.porch", "url", Kind::Text(&URL), |c| &mut c.sink.porch.url,
        "Base URL of the Porch server where it is not behind the server of the kubeconfig. The credential of the \
         kubeconfig is sent there; plain http is for this machine alone, without credential.")
        .computed("the server of the kubeconfig", "\"https://porch.example:7007\""),
    Key::new("sink.porch", "kubeconfig", Kind::Path, |c| &mut c.sink.porch.kubeconfig,
        "Server and credential. Read anew when it changes. Exec plug-ins are not run, and only its owner may be \
         able to write it.")
        .computed(KUBECONFIG, "\"/etc/conductor-loop/kubeconfig\""),
    Key::new("sink.porch", "ca_file", Kind::Path, |c| &mut c.sink.porch.ca_file,
        "PEM certificates that the server of sink.porch.url must lead back to. Read anew when it changes; only \
         its owner may be able to write it.")
        .computed("those of the kubeconfig, else the system's", "\"/etc/conductor-loop/porch-ca.pem\""),
    Key::new("sink.porch", "namespace", Kind::Text(&LABEL), |c| &mut c.sink.porch.namespace,
        "Namespace of the Repository object."),
    Key::new("sink.porch", "repository", Kind::Text(&LABEL), |c| &mut c.sink.porch.repository,
        "Name of the Repository object that packages go to.")
        .computed("none; the Porch sink needs one", "\"edge-deploy\""),
    Key::new("sink.porch", "package", Kind::Word(PackageLayout::WORDS), |c| &mut c.sink.porch.package,
        "Which targets share a package: target gives each its own, namespace one to all of a namespace, site \
         one to all. Intents of a shared package that come together become one revision."),
    Key::new("sink.porch", "site", Kind::Text(&LABEL), |c| &mut c.sink.porch.site,
        "Name of the package that all targets share with package = \"site\"."),
    Key::new("sink.porch", "content", Kind::Word(PackageContent::WORDS), |c| &mut c.sink.porch.content,
        "What packages hold: workloads, or one Kustomize Component that patches the replicas of workloads \
         kept elsewhere."),
    Key::new("sink.porch", "blueprint", Kind::Text(&REVISION), |c| &mut c.sink.porch.blueprint,
        "Name of the published package revision from which new packages are cloned.")
        .computed("new packages begin empty", "\"catalog.odu-high-phy.v2\""),
    Key::new("sink.porch", "approval", Kind::Word(Approval::WORDS), |c| &mut c.sink.porch.approval,
        "How far the daemon takes a revision: leaves it a draft, proposes it for somebody else to approve, or \
         publishes it, which is a right of its own."),
    Key::new("sink.porch", "open_proposal", Kind::Word(OpenProposal::WORDS), |c| &mut c.sink.porch.open_proposal,
        "What becomes of the daemon's own open proposal when a newer intent for its package comes: update takes \
         it back, adds the intent and proposes it again, wait lets the intent wait for the decision."),
    Key::new("sink.porch", "group_window", time_or_zero(MILLI, times(SECOND, 60)),
        |c| &mut c.sink.porch.group_window,
        "How long the first intent of a shared package waits for others to go into the same revision."),
    Key::new("sink.porch", "keep_revisions", count(1, 1_000), |c| &mut c.sink.porch.keep_revisions,
        "Published revisions of its own that the daemon keeps in a package; older ones are removed, since each \
         makes every request slower."),
    Key::new("sink.porch", "max_parallel", count(1, 64), |c| &mut c.sink.porch.max_parallel,
        "Most git URLs that are written to at once; to one git URL there is one write at a time, whatever this \
         says. With the one repository that can be configured it bounds nothing above 1."),
    Key::new("sink.porch", "request_timeout", time(SECOND, times(SECOND, 600)),
        |c| &mut c.sink.porch.request_timeout,
        "How long one request may take; just above the 60s at which the cluster's server gives up by default."),
    Key::new("sink.network-intent", "kubeconfig", Kind::Path, |c| &mut c.sink.network_intent.kubeconfig,
        "Server and credential, as sink.porch.kubeconfig; which cluster is the context's choice.")
        .computed(KUBECONFIG, "\"/etc/conductor-loop/kubeconfig\""),
    Key::new("sink.network-intent", "max_parallel", count(1, 64), |c| &mut c.sink.network_intent.max_parallel,
        "Most requests at once, each for another target; fewer are sent while the cluster is slow or in trouble."),
    Key::new("package", "blueprints", Kind::Path, |c| &mut c.package.blueprints,
        "Directory of whole workloads, <namespace>/<kind>-<name>.yaml or <kind>-<name>.yaml, that are \
         written with only their replicas changed.")
        .computed("packages hold only what the intent owns", "\"/etc/conductor-loop/blueprints\""),
    Key::new("settle", "archive", Kind::Word(Archive::WORDS), |c| &mut c.settle.archive,
        "How a finished file is filed: rename moves it, snapshot writes a copy of the accepted bytes and \
         removes it."),
    Key::new("settle", "status", Kind::Word(StatusForm::WORDS), |c| &mut c.settle.status,
        "How producers are told: one status file per intent, or one journal of JSON lines, which costs less."),
    Key::new("settle", "failed_dir", Kind::Path, |c| &mut c.settle.failed_dir,
        "Where refused and expired files go.")
        .computed("failed in the handoff folder", "\"/var/spool/conductor-loop-failed\""),
    Key::new("settle", "keep_for", time(SECOND, TEN_YEARS), |c| &mut c.settle.keep_for,
        "Age at which filed intents and status files are removed.").live(),
    Key::new("settle", "keep_size", size(MIB, 1024 * TIB), |c| &mut c.settle.keep_size,
        "Size of each of processed, failed and status at which its oldest files are removed.").live(),
    Key::new("http", "listen", Kind::Text(&ADDRESS), |c| &mut c.http.listen,
        "Where metrics, health and statistics are served: off, HOST:PORT (port 0 picks one) or unix:PATH. A \
         taken port is an error if it is set here, a warning if it is the default.")
        .computed("127.0.0.1:8080 for run, port 0 for demo, off for the rest", "\"127.0.0.1:8080\""),
    Key::new("log", "level", Kind::Word(LEVELS), |c| &mut c.log.level,
        "Lowest level that is written. The variable LOG_LEVEL sets its default.").live(),
    Key::new("log", "format", Kind::Word(LogFormat::WORDS), |c| &mut c.log.format,
        "How lines look; auto means text on a terminal, the journal's protocol under systemd, else JSON."),
    Key::new("service", "drain", time(times(MILLI, 100), times(SECOND, 300)), |c| &mut c.service.drain,
        "How long work in hand may take to end after a stop signal.").live(),
    Key::new("service", "sandbox", Kind::Word(SandboxMode::WORDS), |c| &mut c.service.sandbox,
        "Whether the process restricts itself to its own directories and ports (Landlock): best-effort does \
         so under a service manager where the kernel can, require always and does not start without it."),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::fate::SinkKind;
    use crate::intent::TargetKind;

    #[test]
    fn no_two_keys_share_a_name_or_a_variable() {
        let mut seen = HashSet::new();
        for key in KEYS {
            assert!(seen.insert(key.full()), "{} twice", key.full());
            assert!(seen.insert(key.variable()), "{} twice", key.variable());
        }
        assert!(!seen.contains("CONDUCTOR_LOOP_CONFIG"));
        assert_eq!(
            find("sink.folder.out").map(Key::variable).as_deref(),
            Some("CONDUCTOR_LOOP_SINK_FOLDER_OUT")
        );
    }

    #[test]
    fn every_default_lies_in_its_own_range_and_goes_back_into_its_field() {
        for key in KEYS {
            let mut config = Config::default();
            let value = key.get(&config);
            assert!(key.put(&mut config, value), "{}", key.full());
            assert_eq!(config, Config::default(), "{}", key.full());
        }
    }

    #[test]
    fn both_ends_of_every_range_fit_the_field() {
        for key in KEYS {
            let ends = match key.kind {
                Kind::Count(limits) => {
                    assert!(limits.least > 0 && limits.most < u64::MAX, "{}", key.full());
                    [limits.least, limits.most].map(Value::Number)
                }
                Kind::Size(limits) => [limits.least, limits.most].map(Value::Size),
                Kind::Time { limits, .. } => [limits.least, limits.most].map(Value::Time),
                _ => continue,
            };
            for end in ends {
                let mut config = Config::default();
                assert!(key.put(&mut config, end.clone()), "{}", key.full());
                assert_eq!(key.get(&config), end, "{}", key.full());
            }
        }
    }

    #[test]
    fn every_word_of_a_key_fits_its_field() {
        for key in KEYS {
            let Kind::Word(words) = key.kind else { continue };
            for word in words {
                assert!(
                    key.put(&mut Config::default(), Value::Text((*word).into())),
                    "{} {word}",
                    key.full()
                );
            }
        }
        assert_eq!(SINKS, SinkKind::ALL.iter().map(|sink| sink.as_str()).collect::<Vec<_>>());
        let Kind::Word(kinds) = TARGET_KINDS else { panic!("target kinds are words") };
        assert!(kinds.iter().all(|kind| TargetKind::from_word(kind).is_some()));
    }

    #[test]
    fn only_keys_without_a_fixed_default_are_computed() {
        for key in KEYS {
            let unset = key.get(&Config::default()) == Value::Unset;
            assert_eq!(
                unset || ["workers", "coalesce"].contains(&key.name),
                key.computed.is_some(),
                "{}",
                key.full()
            );
        }
    }

    #[test]
    fn a_slip_of_the_pen_finds_its_key() {
        for (wrote, meant) in [
            ("watch.debonce", Some("watch.debounce")),
            ("watch.workers", Some("intake.workers")),
            ("sink.out", Some("sink.folder.out")),
            ("ledger.keepfor", Some("ledger.keep_for")),
            ("sandbox.profile", None),
        ] {
            assert_eq!(nearest(wrote).as_deref(), meant, "{wrote}");
        }
    }

    #[test]
    fn a_glob_has_no_slash_and_closes_its_classes() {
        for (text, good) in [
            ("intent-*.json", true),
            ("[a-z]?.json", true),
            ("", false),
            ("a/b", false),
            ("[a", false),
            ("[]", false),
        ] {
            assert_eq!((GLOB.check)(text), good, "{text}");
        }
    }
}
