//! One settings file: opened with care, read as TOML, judged key by key with line and column.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::ops::Range;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{Fault, Origin};
use super::keys::{self, Key};
use super::kind::{Accepted, Raw};

/// Largest settings file in bytes.
const MAX_SIZE: u64 = 1 << 20;

/// Most faults that are named for one file; what has more is no settings file.
const MAX_FAULTS: usize = 100;

/// One accepted setting of a file.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// Which key.
    pub(super) key: &'static Key,
    /// Its value.
    pub(super) accepted: Accepted,
    /// Where it stands.
    pub(super) origin: Origin,
}

/// Reads the settings file at `path`.
pub(super) fn read(path: &Path, daemon: Option<u32>) -> Result<Guarded, Fault> {
    read_guarded(path, "a settings file", daemon)
}

/// A file that decides what the daemon does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guarded {
    /// Its content.
    pub text: String,
    /// Where the daemon's user is not known: that only a daemon of the file's owner takes it.
    pub note: Option<String>,
}

/// Reads a file that decides what the daemon does, `what` it should be: UTF-8, at most 1 MiB, owned by
/// root or by the `daemon`'s user, where that is known, and writable by the owner alone (C03).
///
/// # Errors
///
/// What is wrong with the file, and how to mend it.
pub fn read_guarded(path: &Path, what: &str, daemon: Option<u32>) -> Result<Guarded, Fault> {
    let place = &path.display();
    let failed = |error: std::io::Error| {
        let next = match error.kind() {
            ErrorKind::PermissionDenied => {
                format!("; give uid {} the right to read it", rustix::process::geteuid().as_raw())
            }
            _ => String::new(),
        };
        Fault::new(place, format!("cannot be read: {error}{next}"))
    };
    let mut file = File::open(path).map_err(failed)?;
    let about = file.metadata().map_err(failed)?;
    if about.is_dir() {
        return Err(Fault::new(place, format!("is a directory, not {what}")));
    }
    let owner = about.uid();
    if let Some(advice) = daemon.and_then(|daemon| strange_owner(owner, daemon)) {
        return Err(Fault::new(place, format!("{advice} {place}")));
    }
    let is_open = daemon.is_none() && owner != 0;
    let note =
        is_open.then(|| format!("{place}: belongs to uid {owner}; only a daemon of this user reads it"));
    let mode = about.permissions().mode();
    if mode & 0o022 != 0 {
        let advice = format!("is writable by others (mode {:04o}); run: chmod go-w {place}", mode & 0o7777);
        return Err(Fault::new(place, advice));
    }
    let mut bytes = Vec::new();
    file.by_ref().take(MAX_SIZE + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_SIZE {
        return Err(Fault::new(place, format!("is larger than 1MiB; is it {what}?")));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let upto = error.utf8_error().valid_up_to();
        let good = String::from_utf8_lossy(&error.as_bytes()[..upto]);
        let origin = position(path, &good, good.len());
        Fault::new(origin, "this byte is not UTF-8; save the file as UTF-8")
    })?;
    Ok(Guarded { text, note })
}

/// What to say of a file whose owner is neither root nor the daemon's `user`, up to its name.
fn strange_owner(owner: u32, user: u32) -> Option<String> {
    let advice = || format!("belongs to uid {owner}, who may change it at any time; run: chown {user}");
    (owner != 0 && owner != user).then(advice)
}

/// Judges the `text` of the file at `path`: every good setting, and every fault in order of place.
///
/// A line that is not TOML is one fault, and the rest is judged without it, unless it is or hides a
/// section's head: then the sections of the keys below are not known.
pub(super) fn judge(path: &Path, text: &str) -> (Vec<Entry>, Vec<Fault>) {
    let mut judge = Judge { path, text, entries: Vec::new(), faults: Vec::new() };
    let mut sound = Cow::Borrowed(text);
    let mut told: Option<Range<usize>> = None;
    for error in DeTable::parse_recoverable(text).1 {
        let at = error.span().map_or(0, |span| span.start);
        let again = told.is_some_and(|line| line.start <= at && at <= line.end);
        let line = line_around(text, at);
        told = Some(line.clone());
        if again || judge.faults.len() > MAX_FAULTS {
            continue;
        }
        judge.faults.push((at, format!("not TOML: {}", error.message())));
        if !text[line.clone()].trim_start().starts_with('[') {
            sound.to_mut().replace_range(line.clone(), &" ".repeat(line.len()));
        }
    }
    if let Ok(table) = DeTable::parse(&sound) {
        judge.section("", table.get_ref());
    }
    judge.finish()
}

struct Judge<'a> {
    path: &'a Path,
    text: &'a str,
    entries: Vec<Entry>,
    faults: Vec<(usize, String)>,
}

impl Judge<'_> {
    fn section(&mut self, prefix: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let full = if prefix.is_empty() {
                name.get_ref().to_string()
            } else {
                format!("{prefix}.{}", name.get_ref())
            };
            match (keys::find(&full), value.get_ref()) {
                (Some(key), _) => self.setting(key, value),
                (None, DeValue::Table(inner)) if keys::is_section(&full) => self.section(&full, inner),
                (None, found) => self.faults.push((name.span().start, unknown(&full, found))),
            }
        }
    }

    fn setting(&mut self, key: &'static Key, value: &Spanned<DeValue<'_>>) {
        let full = key.full();
        match key.kind.accept(&raw(value.get_ref()), &key.advice()) {
            Ok(accepted) => {
                let origin = position(self.path, self.text, value.span().start);
                self.entries.push(Entry { key, accepted, origin });
            }
            Err(wrongs) => {
                for wrong in wrongs {
                    let at = wrong.item.and_then(|item| item_start(value.get_ref(), item));
                    let at = at.unwrap_or(value.span().start);
                    self.faults.push((at, format!("{full}: {}", wrong.text)));
                }
            }
        }
    }

    fn finish(mut self) -> (Vec<Entry>, Vec<Fault>) {
        self.faults.sort_by_key(|(at, _)| *at);
        let (path, text) = (self.path, self.text);
        let more = self.faults.len() > MAX_FAULTS;
        let named = self.faults.into_iter().take(MAX_FAULTS);
        let mut faults: Vec<Fault> =
            named.map(|(at, message)| Fault::new(position(path, text, at), message)).collect();
        if more {
            faults.push(Fault::new(
                path.display(),
                format!("more than {MAX_FAULTS} faults; is it a settings file?"),
            ));
        }
        (self.entries, faults)
    }
}

/// What to say about a name that is no key, or a section used as one.
fn unknown(full: &str, found: &DeValue<'_>) -> String {
    if keys::is_section(full) {
        return format!("{full}: is a section; write [{full}] and its keys below");
    }
    let what = if matches!(found, DeValue::Table(_)) { "section" } else { "key" };
    match keys::nearest(full) {
        Some(near) if what == "key" => format!("{full}: unknown key; did you mean {near}?"),
        _ => match keys::nearest_section(full) {
            Some(near) if what == "section" => format!("{full}: unknown section; did you mean {near}?"),
            _ => format!("{full}: unknown {what}; `conductor-loop config init` lists every key"),
        },
    }
}

/// A TOML value as the kinds judge it.
fn raw<'a>(value: &'a DeValue<'_>) -> Raw<'a> {
    match value {
        DeValue::String(text) => Raw::Text(Cow::Borrowed(OsStr::new(text.as_ref()))),
        DeValue::Integer(number) => match i128::from_str_radix(number.as_str(), number.radix()) {
            Ok(whole) => Raw::Whole(whole),
            Err(_) => Raw::Other(number.to_string()),
        },
        DeValue::Boolean(flag) => Raw::Flag(*flag),
        DeValue::Array(items) => Raw::List(items.iter().map(|item| raw(item.get_ref())).collect()),
        DeValue::Float(number) => Raw::Other(number.to_string()),
        DeValue::Datetime(_) => Raw::Other("a date".into()),
        DeValue::Table(_) => Raw::Other("a section".into()),
    }
}

/// One value as the file would spell it, `"off"` or `["a", "b"]`; `None` if `text` is no such value.
pub(super) fn judge_value(key: &Key, text: &str) -> Option<Result<Accepted, Vec<super::kind::Wrong>>> {
    let value = DeValue::parse(text).ok()?;
    Some(key.kind.accept(&raw(value.get_ref()), &key.advice()))
}

/// Where element `item` of an array begins.
fn item_start(value: &DeValue<'_>, item: usize) -> Option<usize> {
    match value {
        DeValue::Array(items) => items.get(item).map(|item| item.span().start),
        _ => None,
    }
}

fn before(text: &str, at: usize) -> &str {
    &text[..text.floor_char_boundary(at)]
}

/// The line that holds byte `at`, without its end.
fn line_around(text: &str, at: usize) -> Range<usize> {
    let before = before(text, at);
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[before.len()..].find('\n').map_or(text.len(), |newline| before.len() + newline);
    start..end
}

/// Line and column of byte `at`.
fn position(path: &Path, text: &str, at: usize) -> Origin {
    let before = before(text, at);
    let start = line_around(text, at).start;
    Origin::File {
        path: path.to_path_buf(),
        line: before.matches('\n').count() + 1,
        column: before[start..].chars().count() + 1,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::OpenOptionsExt as _;

    use proptest::prelude::*;

    use super::*;

    fn faults(text: &str) -> Vec<String> {
        judge(Path::new("c.toml"), text).1.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_kind_of_fault_is_named_with_its_place() {
        let cases = [
            (
                "[watch]\n\ndebounce = \"5 bananas\"",
                "c.toml line 3 column 12: watch.debounce: \"5 bananas\" is not a duration; write for example 100ms",
            ),
            (
                "[watch]\ndebounce = 5",
                "c.toml line 2 column 12: watch.debounce: 5 has no unit; write for example 100ms",
            ),
            ("watch.period = \"10ms\"", "c.toml line 1 column 16: watch.period: 10ms is outside 100ms to 1h"),
            (
                "[watch]\nrecursive = \"yes\"",
                "c.toml line 2 column 13: watch.recursive: \"yes\" is not true or false; write for example false",
            ),
            (
                "[watch]\nmode = \"fanotify\"",
                "c.toml line 2 column 8: watch.mode: \"fanotify\" is not one of auto, inotify, poll",
            ),
            ("[watch]\nhandoff = \"\"", "c.toml line 2 column 11: watch.handoff: the path is empty"),
            (
                "[watch]\nhandoff = 3",
                "c.toml line 2 column 11: watch.handoff: 3 is not a path; write for example ./handoff",
            ),
            (
                "[watch]\nhandoff = {a = 1}",
                "c.toml line 2 column 11: watch.handoff: a section is not a path; write for example ./handoff",
            ),
            (
                "[watch]\npattern = \"a/b\"",
                "c.toml line 2 column 11: watch.pattern: \"a/b\" is not a glob over file names (*, ?, [...]; no slash); write for example intent-*.json",
            ),
            ("[intake]\nqueue = 1", "c.toml line 2 column 9: intake.queue: 1 is outside 16 to 65536"),
            ("[intake]\nqueue = -1", "c.toml line 2 column 9: intake.queue: -1 is outside 16 to 65536"),
            (
                "[intake]\nqueue = 1.5",
                "c.toml line 2 column 9: intake.queue: 1.5 is not a whole number; write for example 16384",
            ),
            (
                "[intake]\nmax_size = \"1MB\"",
                "c.toml line 2 column 12: intake.max_size: \"1MB\" is not a size; write for example 1MiB",
            ),
            (
                "[intake]\nmax_size = \"1GiB\"",
                "c.toml line 2 column 12: intake.max_size: 1GiB is outside 1KiB to 64MiB",
            ),
            (
                "[policy]\nnamespaces = [\"a\",\n  \"B_\"]",
                "c.toml line 3 column 3: policy.namespaces: \"B_\" is not a DNS-1123 label (a-z, 0-9 and inner hyphens, at most 63)",
            ),
            (
                "[policy]\nnamespaces = \"a\"",
                "c.toml line 2 column 14: policy.namespaces: \"a\" is not a list; write for example [\"a\", \"b\"]",
            ),
            (
                "[policy]\nkinds = [\"pod\"]",
                "c.toml line 2 column 10: policy.kinds: \"pod\" is not one of deployment, statefulset, daemonset, service, configuration",
            ),
            (
                "[http]\nlisten = \"8080\"",
                "c.toml line 2 column 10: http.listen: \"8080\" is not off, HOST:PORT or unix:PATH; write for example 127.0.0.1:8080",
            ),
            (
                "[watch]\ndebonce = \"1s\"",
                "c.toml line 2 column 1: watch.debonce: unknown key; did you mean watch.debounce?",
            ),
            (
                "[sink]\n  profile = 1",
                "c.toml line 2 column 3: sink.profile: unknown key; `conductor-loop config init` lists every key",
            ),
            (
                "[wacth]\ndebounce = \"1s\"",
                "c.toml line 1 column 2: wacth: unknown section; did you mean watch?",
            ),
            (
                "[sink.tape]\ncommand = \"porch\"",
                "c.toml line 1 column 7: sink.tape: unknown section; `conductor-loop config init` lists every key",
            ),
            (
                "sink = \"folder\"",
                "c.toml line 1 column 1: sink: is a section; write [sink] and its keys below",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(faults(text), [expected], "{text}");
        }
    }

    #[test]
    fn all_faults_of_a_file_are_named_at_once_in_order_of_place() {
        let text = "[watch]\nperiod = \"2h\"\nmode = 5\nx y\n[intake]\nworkrs = 1\nqueue = true\n";
        let faults = faults(text);
        let places: Vec<&str> = faults.iter().filter_map(|fault| fault.split(": ").next()).collect();
        assert_eq!(
            places,
            [
                "c.toml line 2 column 10",
                "c.toml line 3 column 8",
                "c.toml line 4 column 3",
                "c.toml line 6 column 1",
                "c.toml line 7 column 9"
            ],
            "{faults:#?}"
        );
    }

    #[test]
    fn below_a_broken_section_head_no_key_is_misjudged() {
        let text = "[watch]\nmode = \"poll\"\n[intake\nqueue = 64\n";
        let (entries, faults) = judge(Path::new("c.toml"), text);
        assert!(entries.is_empty() && faults.len() == 1, "{faults:?}");
        assert!(faults[0].to_string().starts_with("c.toml line 3 column 8: not TOML: "), "{}", faults[0]);
    }

    #[test]
    fn a_file_of_junk_is_told_in_a_hundred_lines() {
        for junk in ["x\n".repeat(10_000), (0..10_000).map(|n| format!("x{n} = 1\n")).collect()] {
            let faults = faults(&junk);
            assert_eq!(faults.len(), 101);
            assert_eq!(faults[100], "c.toml: more than 100 faults; is it a settings file?");
        }
        assert_eq!(faults(&"[".repeat(10_000)).len(), 1);
    }

    #[test]
    fn a_key_given_twice_is_a_fault() {
        let faults = faults("[watch]\nmode = \"poll\"\nmode = \"auto\"\n");
        assert_eq!(faults, ["c.toml line 3 column 1: not TOML: duplicate key"]);
    }

    #[test]
    fn a_broken_line_is_one_fault_and_sets_nothing() {
        let (entries, faults) = judge(Path::new("c.toml"), "[watch]\ndebounce = 5 bananas\nmax_depth = 2\n");
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].to_string().starts_with("c.toml line 2 column "), "{}", faults[0]);
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].key.name, "max_depth");
    }

    #[test]
    fn columns_count_characters_and_bad_bytes_have_a_place() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("c.toml");
        std::fs::write(&path, b"# x\n# \xc3\xa9 \xff\n").expect("written");
        let fault = read(&path, None).expect_err("not UTF-8").to_string();
        assert!(
            fault.ends_with("line 2 column 5: this byte is not UTF-8; save the file as UTF-8"),
            "{fault}"
        );
    }

    #[test]
    fn a_file_that_others_can_write_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("c.toml");
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).expect("created");
        let us = Some(rustix::process::geteuid().as_raw());
        assert_eq!(read(&path, us).map(|read| read.text).as_deref(), Ok(""));
        for mode in [0o620, 0o602, 0o666] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("owner may");
            let fault = read(&path, us).expect_err("writable by others").to_string();
            let name = path.display();
            assert_eq!(
                fault,
                format!("{name}: is writable by others (mode {mode:04o}); run: chmod go-w {name}")
            );
        }
    }

    #[test]
    fn a_file_of_a_third_user_is_refused() {
        assert_eq!(strange_owner(0, 65_534), None);
        assert_eq!(strange_owner(65_534, 65_534), None);
        let advice = strange_owner(1_000, 65_534);
        assert_eq!(
            advice.as_deref(),
            Some("belongs to uid 1000, who may change it at any time; run: chown 65534")
        );
        assert!(strange_owner(1_000, 0).is_some(), "not even root's daemon is told what to do by a user");
    }

    #[test]
    fn who_only_looks_takes_a_file_of_any_user_and_says_whose_it_is() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("c.toml");
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).expect("created");
        let owner = std::fs::metadata(&path).expect("there").uid();
        let told = read(&path, None).expect("no fault").note;
        assert_eq!(told.is_some(), owner != 0, "{told:?}");
        let stranger = owner + 1;
        assert_eq!(read(&path, Some(stranger)).is_err(), owner != 0);
        assert_eq!(read(&path, Some(owner)).expect("its own").note, None);
    }

    #[test]
    fn a_huge_file_and_a_directory_are_no_settings() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(read(dir.path(), None).is_err());
        let path = dir.path().join("c.toml");
        std::fs::write(&path, vec![b'#'; (1 << 20) + 1]).expect("written");
        let fault = read(&path, None).expect_err("too large");
        assert_eq!(fault.message, "is larger than 1MiB; is it a settings file?");
    }

    proptest! {
        #[test]
        fn no_text_makes_the_judge_panic(text in ".*") {
            judge(Path::new("c.toml"), &text);
        }

        #[test]
        fn nothing_that_looks_like_toml_makes_the_judge_panic(
            text in "((\\[?\\[|)(watch|sink(\\.folder)?|policy|é)(\\]|)\n?|(debounce|out|kinds|max_depth) ?= ?(\"[a-z0-9é]*\"?|-?[0-9_]{1,40}|\\[\"a\", 5\\]?|\\{a=1\\}|true|1979-05-27|\"\"\"x\n)\n?){0,12}"
        ) {
            judge(Path::new("c.toml"), &text);
        }
    }
}
