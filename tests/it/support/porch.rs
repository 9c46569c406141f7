//! A fake Porch with one repository, and the files that lead a client to it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use conductor_loop::clock::SystemClock;
use conductor_loop::fake_porch::{FakePorch, NAMESPACE, Options};
use conductor_loop::submit::porch::client::{Client, Connection, Surroundings};
use tempfile::TempDir;

/// The repository of every [`Porch`].
pub(crate) const REPOSITORY: &str = "edge";

/// A server on a port of its own, and a folder for what its clients read.
pub(crate) struct Porch {
    pub(crate) fake: FakePorch,
    folder: TempDir,
}

impl Porch {
    /// With a good certificate and open to everybody.
    pub(crate) fn start() -> Porch {
        Porch::with(Options::default())
    }

    /// Of one's own choice.
    pub(crate) fn with(options: Options) -> Porch {
        let fake = FakePorch::start(options).unwrap();
        fake.add_repository(REPOSITORY, NAMESPACE, "https://git.example/edge.git");
        let folder = tempfile::Builder::new().prefix("conductor-loop-porch-").tempdir().unwrap();
        Porch { fake, folder }
    }

    /// Puts a file that only its owner can write into place by a rename, as rotation does.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let (draft, path) = (self.folder.path().join(".draft"), self.folder.path().join(name));
        fs::write(&draft, text).unwrap();
        fs::set_permissions(&draft, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(&draft, &path).unwrap();
        path
    }

    /// A kubeconfig for the server as it is now.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.file("kubeconfig", &self.fake.kubeconfig())
    }

    /// A kubeconfig with this user, in YAML on one line.
    pub(crate) fn kubeconfig_of(&self, user: &str) -> PathBuf {
        let whole = self.fake.kubeconfig();
        let head = whole.rsplit_once("user: ").expect("a kubeconfig ends with its user").0;
        self.file("kubeconfig", &format!("{head}user: {user}\n"))
    }

    /// The way to the server by this kubeconfig.
    pub(crate) fn by(&self, kubeconfig: PathBuf) -> Connection {
        Connection { kubeconfig: Some(kubeconfig), ..connection() }
    }

    /// A client that has asked nothing yet.
    pub(crate) fn client(&self) -> Client {
        client(self.by(self.kubeconfig()))
    }
}

/// To nobody, until it is told to whom.
pub(crate) fn connection() -> Connection {
    Connection {
        url: None,
        ca_file: None,
        kubeconfig: None,
        surroundings: Surroundings::default(),
        namespace: NAMESPACE.to_owned(),
        repository: REPOSITORY.to_owned(),
        request_timeout: Duration::from_secs(20),
    }
}

/// A client over this connection.
pub(crate) fn client(connection: Connection) -> Client {
    Client::new(connection, Arc::new(SystemClock), Box::new(|_, _| {}))
}
