//! Places that depend on more than one setting: the state directory and the HTTP address.

use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::layers::Environment;
use super::model::{Config, Listen};

/// `$STATE_DIRECTORY`, if it is set; systemd separates several by colons and the first is ours.
pub(super) fn systemd_state(environment: &Environment) -> Option<PathBuf> {
    let value = environment.get(std::ffi::OsStr::new("STATE_DIRECTORY"))?;
    let first = value.as_bytes().split(|byte| *byte == b':').next().unwrap_or_default();
    (!first.is_empty()).then(|| Path::new(std::ffi::OsStr::from_bytes(first)).to_path_buf())
}

/// Where ledger and locks are: `ledger.dir`, else `$STATE_DIRECTORY`, else `.conductor` in the
/// handoff folder (`design.md` D17).
pub fn state_dir(config: &Config, environment: &Environment) -> PathBuf {
    let configured = config.ledger.dir.clone().or_else(|| systemd_state(environment));
    configured.unwrap_or_else(|| config.watch.handoff.join(".conductor"))
}

/// Which command asks for an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `run`: 127.0.0.1:8080.
    Run,
    /// `demo` that stays: any free port of 127.0.0.1.
    Demo,
    /// Everything that ends by itself: no HTTP.
    Brief,
}

/// The address to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listening {
    /// Never [`Listen::Unset`].
    pub at: Listen,
    /// True if somebody asked for it: if it is taken the process cannot start (exit 1). False for a
    /// default: if it is taken a warning says so and there is no HTTP.
    pub configured: bool,
}

/// `http.listen`, or the default of the command (`contract.md` 1).
pub fn listening(listen: &Listen, role: Role) -> Listening {
    match (listen, role) {
        (Listen::Unset, Role::Run) => {
            Listening { at: Listen::Tcp("127.0.0.1:8080".into()), configured: false }
        }
        (Listen::Unset, Role::Demo) => Listening { at: Listen::Tcp("127.0.0.1:0".into()), configured: false },
        (Listen::Unset, Role::Brief) => Listening { at: Listen::Off, configured: false },
        (at, _) => Listening { at: at.clone(), configured: true },
    }
}

impl Listen {
    /// Reads `off`, `HOST:PORT` (a name, an IPv4 address or an IPv6 address in brackets) or `unix:PATH`.
    pub fn parse(text: &str) -> Option<Listen> {
        if text == "off" {
            return Some(Listen::Off);
        }
        if let Some(path) = text.strip_prefix("unix:") {
            return (!path.is_empty() && !path.contains('\0')).then(|| Listen::Unix(path.into()));
        }
        let (host, port) = text.rsplit_once(':')?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let good_host = match bracketed {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-')
            }
        };
        let good_port = port.bytes().all(|digit| digit.is_ascii_digit()) && port.parse::<u16>().is_ok();
        (good_host && good_port).then(|| Listen::Tcp(text.into()))
    }

    /// Whether other machines may reach it.
    pub(super) fn is_open(&self) -> bool {
        let Listen::Tcp(address) = self else { return false };
        let host = address.rsplit_once(':').map_or("", |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host != "localhost" && !host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

/// As the file spells it; [`Listen::Unset`] is `default`.
impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Unset => f.write_str("default"),
            Listen::Off => f.write_str("off"),
            Listen::Tcp(address) => f.write_str(address),
            Listen::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn systemd(value: &str) -> Environment {
        Environment::from([("STATE_DIRECTORY".into(), value.into())])
    }

    #[test]
    fn the_state_is_where_the_first_of_three_says() {
        let mut config = Config::default();
        assert_eq!(state_dir(&config, &Environment::new()), Path::new("./handoff/.conductor"));
        assert_eq!(state_dir(&config, &systemd("")), Path::new("./handoff/.conductor"));
        assert_eq!(state_dir(&config, &systemd("/var/lib/a:/var/lib/b")), Path::new("/var/lib/a"));
        config.ledger.dir = Some("/srv/state".into());
        assert_eq!(state_dir(&config, &systemd("/var/lib/a")), Path::new("/srv/state"));
    }

    #[test]
    fn each_command_has_its_own_default_address() {
        let unset = |role| listening(&Listen::Unset, role);
        let local = |port: u16| Listen::Tcp(format!("127.0.0.1:{port}"));
        assert_eq!(unset(Role::Run), Listening { at: local(8080), configured: false });
        assert_eq!(unset(Role::Demo), Listening { at: local(0), configured: false });
        assert_eq!(unset(Role::Brief), Listening { at: Listen::Off, configured: false });
        assert_eq!(listening(&local(9), Role::Brief), Listening { at: local(9), configured: true });
    }

    #[test]
    fn addresses_are_read_and_printed_alike() {
        for text in ["off", "127.0.0.1:8080", "localhost:0", "[::1]:9090", "unix:/run/x.sock"] {
            assert_eq!(Listen::parse(text).map(|listen| listen.to_string()).as_deref(), Some(text));
        }
        for text in
            ["", "8080", ":8080", "localhost", "localhost:65536", "localhost:+1", "::1:80", "unix:", "a b:1"]
        {
            assert_eq!(Listen::parse(text), None, "{text}");
        }
    }

    #[test]
    fn only_loopback_and_sockets_are_closed_to_others() {
        let open = |text| Listen::parse(text).is_some_and(|listen| listen.is_open());
        assert!(open("0.0.0.0:80") && open("[::]:80") && open("node-3:80"));
        assert!(!open("127.0.0.9:80") && !open("[::1]:80") && !open("localhost:80") && !open("unix:/x"));
    }
}
