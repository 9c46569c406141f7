//! A unit file, read as far as ours go: no continuation lines, no quotes.

use std::fs;

/// Sections and their assignments, in order.
pub(super) struct UnitFile {
    path: String,
    lines: Vec<(String, String, String)>,
}

impl UnitFile {
    #[track_caller]
    pub(super) fn read(path: &str) -> UnitFile {
        let text = fs::read_to_string(path).unwrap_or_else(|err| panic!("{path}: {err}"));
        let (mut section, mut lines) = (String::new(), Vec::new());
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                name.clone_into(&mut section);
                continue;
            }
            let (key, value) =
                line.split_once('=').unwrap_or_else(|| panic!("{path}: no assignment: {line}"));
            lines.push((section.clone(), key.to_owned(), value.to_owned()));
        }
        UnitFile { path: path.to_owned(), lines }
    }

    /// Section, key and value of every line.
    pub(super) fn lines(self) -> Vec<(String, String, String)> {
        self.lines
    }

    /// Every value of a key.
    pub(super) fn all(&self, section: &str, key: &str) -> Vec<String> {
        let lines = self.lines.iter().filter(|(own, name, _)| own == section && name == key);
        lines.map(|(_, _, value)| value.clone()).collect()
    }

    /// The one value of a key.
    #[track_caller]
    pub(super) fn one(&self, section: &str, key: &str) -> &str {
        let mut lines = self.lines.iter().filter(|(own, name, _)| own == section && name == key);
        let value = lines.next().unwrap_or_else(|| panic!("{}: no {key} in [{section}]", self.path));
        assert!(lines.next().is_none(), "{}: {key} stands twice", self.path);
        &value.2
    }
}
