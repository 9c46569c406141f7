//! The layers over the defaults: where settings come from, in which order, and who won.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::fault::{Fault, Faults, Origin};
use super::file::{self, Guarded};
use super::keys::{self, KEYS, Key};
use super::kind::{Accepted, Kind, Wrong};
use super::model::Config;
use super::rules;

/// The environment of the process, as `std::env::vars_os().collect()` gives it.
pub type Environment = BTreeMap<OsString, OsString>;

/// Names the settings file when no flag does.
const FILE_VARIABLE: &str = "CONDUCTOR_LOOP_CONFIG";

/// One setting from the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// Full name of the key, `watch.debounce`; as typed after `--set`, so perhaps unknown.
    pub key: String,
    /// Its value, unquoted.
    pub value: OsString,
    /// [`Origin::Set`] or [`Origin::Flag`].
    pub origin: Origin,
}

/// Everything that [`load`] looks at.
#[derive(Debug, Clone)]
pub struct Layers {
    /// The file that `--config` names; it must exist.
    pub file: Option<PathBuf>,
    /// The environment.
    pub environment: Environment,
    /// `--set` and flags; a later one wins over an earlier one.
    pub given: Vec<Given>,
    /// The file of last resort.
    pub system: PathBuf,
    /// Cores of this machine, for the limit of `intake.workers`.
    pub cores: usize,
    /// The user of the daemon that goes by these settings, who beside root may own the files; `None` for
    /// whoever looks at them as another user and does not know it.
    pub daemon: Option<u32>,
}

impl Layers {
    /// The layers of a process with this environment on this machine, without any flag.
    pub fn new(environment: Environment) -> Self {
        Layers {
            file: None,
            environment,
            given: Vec::new(),
            system: "/etc/conductor-loop/config.toml".into(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            daemon: Some(rustix::process::geteuid().as_raw()),
        }
    }

    fn variable(&self, name: &str) -> Option<&OsStr> {
        self.environment.get(OsStr::new(name)).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }
}

/// Settings, complete and checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// Where each value came from.
    pub origins: Origins,
    /// What was clamped or ignored, one line each, for the log.
    pub warnings: Vec<String>,
    /// The main settings file, if there is one.
    pub file: Option<PathBuf>,
}

/// The origin of every key.
#[derive(Debug, Clone, PartialEq)]
pub struct Origins(Vec<Origin>);

impl Origins {
    /// The origin of the key with this full name; [`Origin::Default`] for an unknown one.
    pub fn of(&self, full: &str) -> &Origin {
        let at = KEYS.iter().position(|key| key.full() == full);
        at.and_then(|at| self.0.get(at)).unwrap_or(&Origin::Default)
    }

    fn set(&mut self, key: &Key, origin: Origin) {
        let at = KEYS.iter().position(|other| other.section == key.section && other.name == key.name);
        if let Some(slot) = at.and_then(|at| self.0.get_mut(at)) {
            *slot = origin;
        }
    }
}

/// Lays file, `conf.d`, environment, `--set` and flags over the defaults.
///
/// # Errors
///
/// Every fault of every layer, and folders that exclude each other.
pub fn load(layers: &Layers) -> Result<Loaded, Faults> {
    let (loaded, faults) = survey(layers);
    if faults.is_empty() { Ok(loaded) } else { Err(Faults(faults)) }
}

/// The same for whoever looks further in spite of faults: a faulty setting keeps the value of the layer below.
pub fn survey(layers: &Layers) -> (Loaded, Vec<Fault>) {
    let mut pile = Pile::new();
    pile.log_level(layers);
    let file = pile.locate(layers);
    for path in file.iter().flat_map(|main| pile.with_fragments(main)).collect::<Vec<_>>() {
        pile.file(&path, layers.daemon);
    }
    pile.environment(layers);
    for given in &layers.given {
        pile.given(given);
    }
    let Pile { mut config, origins, mut faults, notes, mut warnings } = pile;
    warnings.extend(notes.into_values());
    warnings.extend(rules::settle(&mut config, &origins, layers.cores));
    faults.extend(rules::folders(&config, &origins, &layers.environment));
    faults.extend(rules::command(&config, &origins));
    faults.extend(rules::porch(&config, &origins));
    (Loaded { config, origins, warnings, file }, faults)
}

/// The settings while layers are laid on.
struct Pile {
    config: Config,
    origins: Origins,
    faults: Vec<Fault>,
    /// What was clamped, by key: a later layer takes an earlier one's note away.
    notes: BTreeMap<String, String>,
    warnings: Vec<String>,
}

impl Pile {
    fn new() -> Self {
        Pile {
            config: Config::default(),
            origins: Origins(vec![Origin::Default; KEYS.len()]),
            faults: Vec::new(),
            notes: BTreeMap::new(),
            warnings: Vec::new(),
        }
    }

    /// `$LOG_LEVEL` as the original knew it; foreign values are not ours to refuse.
    fn log_level(&mut self, layers: &Layers) {
        let Some(value) = layers.variable("LOG_LEVEL") else { return };
        let word = value.to_string_lossy().to_lowercase();
        let word = if word == "warning" { "warn" } else { word.as_str() };
        let (Some(key), origin) = (keys::find("log.level"), Origin::Environment("LOG_LEVEL".into())) else {
            return;
        };
        match key.judge_loose(OsStr::new(word)) {
            Ok(accepted) => self.put(key, accepted, origin),
            Err(_) => self.warnings.push(format!("{origin}: {} is no log level, ignored", value.display())),
        }
    }

    /// The file to read. One that is named must exist; the others are read where they exist.
    fn locate(&mut self, layers: &Layers) -> Option<PathBuf> {
        let variable = layers.variable(FILE_VARIABLE).map(PathBuf::from);
        if let Some(named) = layers.file.clone().or(variable) {
            return Some(named);
        }
        let home = layers.variable("HOME").map(|home| Path::new(home).join(".config"));
        let xdg = layers.variable("XDG_CONFIG_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute());
        let user = xdg.or(home).map(|dir| dir.join("conductor-loop/config.toml"));
        if let Some(user) = user {
            match user.metadata() {
                Ok(_) => return Some(user),
                Err(error) if is_absent(&error) => {}
                // A sandbox may close the home directory; that is no reason not to start.
                Err(error) => self.warnings.push(format!("{}: passed over: {error}", user.display())),
            }
        }
        match layers.system.metadata() {
            Err(error) if is_absent(&error) => None,
            _ => Some(layers.system.clone()),
        }
    }

    /// `main` and the `conf.d/*.toml` beside it, by name.
    fn with_fragments(&mut self, main: &Path) -> Vec<PathBuf> {
        let dir = main.with_file_name("conf.d");
        let mut paths = Vec::new();
        match std::fs::read_dir(&dir).and_then(|entries| entries.collect::<Result<Vec<_>, _>>()) {
            Ok(entries) => {
                paths.extend(entries.iter().map(std::fs::DirEntry::path).filter(|path| is_fragment(path)))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            // A main file that is not there is told by itself.
            Err(error) if error.kind() == ErrorKind::NotADirectory && !dir.exists() => {}
            Err(error) => {
                let what = format!("cannot be read: {error}; it is the directory of fragments");
                self.faults.push(Fault::new(dir.display(), what));
            }
        }
        paths.sort();
        paths.insert(0, main.to_path_buf());
        paths
    }

    fn file(&mut self, path: &Path, daemon: Option<u32>) {
        match file::read(path, daemon) {
            Ok(Guarded { text, note }) => {
                self.warnings.extend(note);
                let (entries, faults) = file::judge(path, &text);
                self.faults.extend(faults);
                for entry in entries {
                    self.put(entry.key, entry.accepted, entry.origin);
                }
            }
            Err(fault) => self.faults.push(fault),
        }
    }

    fn environment(&mut self, layers: &Layers) {
        for key in KEYS {
            let name = key.variable();
            if let Some(value) = layers.variable(&name) {
                self.judged(key, judge_text(key, value), &Origin::Environment(name));
            }
        }
        let names = layers.environment.keys().filter_map(|name| name.to_str());
        self.warnings.extend(names.filter_map(unknown_variable));
    }

    fn given(&mut self, given: &Given) {
        let Some(key) = keys::find(&given.key) else {
            let advice = keys::nearest(&given.key).map_or_else(
                || "`conductor-loop config init` lists every key".to_string(),
                |near| format!("did you mean {near}?"),
            );
            self.faults.push(Fault::new(&given.origin, format!("{}: unknown key; {advice}", given.key)));
            return;
        };
        let judged = match given.origin {
            Origin::Set => judge_text(key, &given.value),
            _ => key.judge_loose(&given.value),
        };
        self.judged(key, judged, &given.origin);
    }

    fn judged(&mut self, key: &'static Key, judged: Result<Accepted, Vec<Wrong>>, origin: &Origin) {
        match judged {
            Ok(accepted) => self.put(key, accepted, origin.clone()),
            Err(wrongs) => {
                let faults = wrongs.into_iter();
                self.faults.extend(
                    faults.map(|wrong| Fault::new(origin, format!("{}: {}", key.full(), wrong.text))),
                );
            }
        }
    }

    fn put(&mut self, key: &'static Key, accepted: Accepted, origin: Origin) {
        let full = key.full();
        match accepted.note {
            Some(note) => self.notes.insert(full.clone(), format!("{origin}: {full}: {note}")),
            None => self.notes.remove(&full),
        };
        let shown = accepted.value.to_string();
        if key.put(&mut self.config, accepted.value) {
            self.origins.set(key, origin);
        } else {
            self.faults.push(Fault::new(origin, format!("{full}: {shown} does not fit this machine")));
        }
    }
}

fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// `*.toml`, but not a hidden file that an editor left.
fn is_fragment(path: &Path) -> bool {
    let name = path.file_name().map(OsStr::as_encoded_bytes).unwrap_or_default();
    name.ends_with(b".toml") && !name.starts_with(b".")
}

/// A value as typed, or as the file would quote it: `"off"`, `["a", "b"]`.
fn judge_text(key: &Key, value: &OsStr) -> Result<Accepted, Vec<Wrong>> {
    let quoted = value.to_str().filter(|text| {
        text.starts_with(['"', '\'']) || (text.starts_with('[') && matches!(key.kind, Kind::List(_)))
    });
    quoted.and_then(|text| file::judge_value(key, text)).unwrap_or_else(|| key.judge_loose(value))
}

/// A warning for a variable that looks like a setting and is none. What Kubernetes sets for a
/// service named `conductor-loop` is left alone.
fn unknown_variable(name: &str) -> Option<String> {
    let rest = name.strip_prefix("CONDUCTOR_LOOP_")?;
    let cluster = ["SERVICE_HOST", "SERVICE_PORT", "PORT"].iter().any(|word| rest.starts_with(word));
    if cluster || name == FILE_VARIABLE || KEYS.iter().any(|key| key.variable() == name) {
        return None;
    }
    let near = keys::closest(name, KEYS.iter().map(Key::variable));
    let advice = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
    Some(format!("environment {name}: no such setting, ignored{advice}"))
}

#[cfg(test)]
mod tests;
