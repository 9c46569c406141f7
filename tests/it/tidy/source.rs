//! Rust sources as the tidy tests see them: with comments and literals blanked out, and without tests.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// One file of the crate.
pub(super) struct Source {
    /// Relative to the crate.
    pub(super) path: String,
    /// As it is.
    pub(super) text: String,
    /// With comments, strings and characters blanked out, lines kept.
    code: String,
}

/// All Rust files below a folder of the crate.
pub(super) fn sources(folder: &str) -> Vec<Source> {
    let mut found = Vec::new();
    gather(Path::new(folder), &mut found);
    found.sort_by(|one, other| one.path.cmp(&other.path));
    assert!(!found.is_empty(), "{folder} has sources");
    found
}

fn gather(folder: &Path, found: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            gather(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let code = blank(&text);
            found.push(Source { path: path.to_str().expect("plain names").to_owned(), text, code });
        }
    }
}

impl Source {
    /// The top-level module that it belongs to.
    pub(super) fn module(&self) -> &str {
        let rest = self.path.split('/').nth(1).unwrap_or_default();
        rest.strip_suffix(".rs").unwrap_or(rest)
    }

    /// True for files that are compiled for tests alone.
    pub(super) fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.contains("/tests/")
    }

    /// The code up to its test module at the end of the file.
    pub(super) fn program(&self) -> String {
        let lines: Vec<&str> = self.code.lines().collect();
        let is_test_module = |at: &usize| {
            lines[*at].trim() == "#[cfg(test)]"
                && lines[*at + 1..].iter().find(|line| !line.trim().starts_with("#[")).is_some_and(|line| {
                    let line = line.trim();
                    line.starts_with("mod ") && line.ends_with('{')
                })
        };
        let end = (0..lines.len().saturating_sub(1)).find(is_test_module).unwrap_or(lines.len());
        lines[..end].join("\n")
    }

    /// The modules of the crate that its program names.
    pub(super) fn imports(&self) -> BTreeSet<String> {
        let program = self.program();
        let mut names = BTreeSet::new();
        for (at, _) in program.match_indices("crate::") {
            let rest = &program[at + "crate::".len()..];
            match rest.strip_prefix('{') {
                Some(list) => names.extend(heads(list)),
                None => names.extend([word(rest)]),
            }
        }
        names.remove("");
        names
    }

    /// Name and number of lines of every function, from its signature to its closing brace.
    pub(super) fn functions(&self) -> impl Iterator<Item = (String, usize)> {
        let program = self.program();
        let starts: Vec<usize> = program
            .match_indices("fn ")
            .map(|(at, _)| at)
            .filter(|at| *at == 0 || !program.as_bytes()[at - 1].is_ascii_alphanumeric())
            .collect();
        starts.into_iter().filter_map(move |at| {
            let body = &program[at..];
            let open = body.find(['{', ';']).filter(|found| body.as_bytes()[*found] == b'{')?;
            let end = closing(&body[open..])? + open;
            Some((word(&body["fn ".len()..]), body[..end].lines().count()))
        })
    }

    /// Every word outside comments and literals.
    pub(super) fn words_of_code(&self) -> impl Iterator<Item = &str> {
        self.code.split(|letter: char| !letter.is_alphanumeric() && letter != '_')
    }
}

/// True if `needle` stands in `code` and does not continue a longer word.
pub(super) fn has_word(code: &str, needle: &str) -> bool {
    code.match_indices(needle).any(|(at, _)| {
        at == 0 || !(code.as_bytes()[at - 1].is_ascii_alphanumeric() || code.as_bytes()[at - 1] == b'_')
    })
}

fn word(text: &str) -> String {
    text.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
}

/// The first words of a list in braces that has just been opened.
fn heads(list: &str) -> Vec<String> {
    let (mut depth, mut begins, mut found) = (0, true, Vec::new());
    for (at, letter) in list.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => begins = true,
            _ if begins && letter.is_alphabetic() => {
                found.push(word(&list[at..]));
                begins = false;
            }
            _ => {}
        }
    }
    found
}

/// Where the brace that opens `text` is closed.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0;
    for (at, letter) in text.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at + 1);
        }
    }
    None
}

/// Comments, strings and characters as blanks; lines stay lines.
fn blank(text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < letters.len() {
        let end = literal_end(&letters, at);
        if end == at {
            out.push(letters[at]);
            at += 1;
        } else {
            out.extend(letters[at..end].iter().map(|letter| if *letter == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

/// The end of the comment or literal that begins at `at`; `at` itself if none does.
fn literal_end(letters: &[char], at: usize) -> usize {
    let next = |ahead: usize| letters.get(at + ahead).copied().unwrap_or('\0');
    let from = |start: usize, found: &dyn Fn(&[char]) -> bool, len: usize| {
        (start..letters.len()).find(|at| found(&letters[*at..])).map_or(letters.len(), |at| at + len)
    };
    let in_word = at > 0 && (letters[at - 1].is_alphanumeric() || letters[at - 1] == '_');
    match (letters[at], next(1)) {
        ('/', '/') => from(at, &|rest| rest[0] == '\n', 0),
        ('/', '*') => from(at + 2, &|rest| rest.starts_with(&['*', '/']), 2),
        ('r', '"' | '#') if !in_word || letters[at - 1] == 'b' => raw_end(letters, at),
        ('"', _) => quoted_end(letters, at, '"'),
        ('\'', '\\') => quoted_end(letters, at, '\''),
        ('\'', _) if next(2) == '\'' => at + 3,
        _ => at,
    }
}

fn raw_end(letters: &[char], at: usize) -> usize {
    let fence = letters[at + 1..].iter().take_while(|letter| **letter == '#').count();
    if letters.get(at + 1 + fence) != Some(&'"') {
        return at;
    }
    let closes = |at: &usize| {
        letters[*at] == '"'
            && letters[at + 1..].iter().take(fence).filter(|letter| **letter == '#').count() == fence
    };
    (at + fence + 2..letters.len()).find(closes).map_or(letters.len(), |end| end + 1 + fence)
}

fn quoted_end(letters: &[char], at: usize, quote: char) -> usize {
    let mut end = at + 1;
    while end < letters.len() && letters[end] != quote {
        end += if letters[end] == '\\' { 2 } else { 1 };
    }
    (end + 1).min(letters.len())
}

#[test]
fn comments_and_literals_are_blanked_and_nothing_else() {
    let text = "fn a<'x>() { let s = \"}\\\"{\"; let c = '{'; let r = r#\"}\"#; } // {\n/* { */ fn b() {}";
    let code = blank(text);
    assert_eq!(code.matches('{').count(), code.matches('}').count());
    assert_eq!(code.lines().count(), text.lines().count());
    assert!(code.contains("fn a<'x>()") && code.contains("fn b()"));
}
