//! HTTP as it is on the wire, and the metrics page.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// Its status code.
    pub(crate) code: u16,
    /// Status line and header lines, lower case.
    pub(crate) head: String,
    /// What follows.
    pub(crate) body: String,
}

impl Answer {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    }
}

/// One request on a connection of its own; `None` if nobody answers.
pub(crate) fn request(address: &str, method: &str, path: &str, headers: &str) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}\r\n")
        .ok()?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let code = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { code, head: head.to_ascii_lowercase(), body: body.to_owned() })
}

/// The metrics page, by series.
#[derive(Debug, Clone, Default)]
pub(crate) struct Page(BTreeMap<String, f64>);

impl Page {
    /// Reads the text format.
    #[track_caller]
    pub(crate) fn parse(text: &str) -> Page {
        let mut series = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
            let value = value.parse().unwrap_or_else(|_| panic!("not a number: {line}"));
            assert!(series.insert(name.to_owned(), value).is_none(), "twice on the page: {name}");
        }
        Page(series)
    }

    /// The one series of a name without labels.
    #[track_caller]
    pub(crate) fn value(&self, name: &str) -> f64 {
        *self.0.get(name).unwrap_or_else(|| panic!("{name} is not on the page"))
    }

    /// The series of a name with one label.
    #[track_caller]
    pub(crate) fn labelled(&self, name: &str, label: &str, word: &str) -> f64 {
        let wanted = format!("{label}=\"{word}\"");
        let mut found = self.of(name).filter(|(labels, _)| labels.contains(&wanted)).map(|(_, value)| value);
        found.next().unwrap_or_else(|| panic!("{name}{{{wanted}}} is not on the page"))
    }

    /// All series of a name together.
    pub(crate) fn sum(&self, name: &str) -> f64 {
        self.of(name).map(|(_, value)| value).sum()
    }

    /// True if the name has a series.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.of(name).next().is_some()
    }

    /// Labels and value of every series of a name.
    pub(crate) fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        self.0.iter().filter_map(move |(series, value)| {
            let labels = series.strip_prefix(name)?;
            (labels.is_empty() || labels.starts_with('{')).then_some((labels, *value))
        })
    }

    /// Every series: name and labels.
    pub(crate) fn series(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// How many series there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}
