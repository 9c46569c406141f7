//! The server of `demo --sink porch`: a fake Porch inside this process, over real TLS, as slow as a real one was
//! measured to be. No cluster is touched, and what it holds ends with the process.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::config::{Given, Origin};
use crate::fake_porch::{Costs, FakePorch, NAMESPACE, Options, Stage};

const REPOSITORY: &str = "demo";

/// A running server and the kubeconfig that leads to it.
pub(super) struct Server {
    fake: FakePorch,
    kubeconfig: PathBuf,
}

impl Server {
    /// Serves, and writes a kubeconfig into the demonstration's folder.
    pub(super) fn start(dir: &Path) -> Result<Server, String> {
        let kubeconfig = dir.join("kubeconfig");
        let fault = |err: io::Error| format!("demo server: {err}");
        let fake =
            FakePorch::start(Options { costs: Costs::MEASURED, ..Options::default() }).map_err(fault)?;
        fake.add_repository(REPOSITORY, NAMESPACE, "https://git.invalid/demo.git");
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&kubeconfig).map_err(fault)?;
        file.write_all(fake.kubeconfig().as_bytes()).map_err(fault)?;
        Ok(Server { fake, kubeconfig })
    }

    /// The settings that lead there.
    pub(super) fn given(&self) -> Vec<Given> {
        let flag = |key: &str, value: &Path| Given {
            key: key.to_owned(),
            value: value.as_os_str().to_owned(),
            origin: Origin::Flag("--sink"),
        };
        let word = Path::new;
        vec![
            flag("sink.kind", word("porch")),
            flag("sink.porch.kubeconfig", &self.kubeconfig),
            flag("sink.porch.repository", word(REPOSITORY)),
            flag("sink.porch.approval", word("publish")),
        ]
    }

    /// What it is, plainly.
    pub(super) fn introduction(&self) -> String {
        format!(
            "sink porch: a fake Porch inside this process ({}), as slow as a real one; no cluster is touched",
            self.fake.url()
        )
    }

    /// A line for each revision that was made.
    pub(super) fn revisions(&self) -> Vec<String> {
        let line = |seen: &crate::fake_porch::Seen| {
            let stage = match seen.stage {
                Stage::Published => format!("revision {}", seen.number),
                stage => stage.to_string(),
            };
            format!("fake      {} {stage}", seen.name)
        };
        self.fake.audit().revisions.iter().map(line).collect()
    }
}
