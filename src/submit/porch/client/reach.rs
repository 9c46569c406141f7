//! What of the machine the requests need, for a process that gives up the rest.
//!
//! Told before the first request. Directories, not files: a credential that rotates is another file. The ports
//! are those that the settings and the kubeconfig name now, and the two that clusters have mostly; a kubeconfig
//! that comes to name another one needs a restart of a process so restricted.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use http::Uri;
use kube::config::{AuthInfo, Kubeconfig};

use super::Connection;
use super::access::{POD_CREDENTIAL, in_cluster, kubeconfigs};

/// Ports of most clusters.
const USUAL: [u16; 2] = [443, 6_443];
/// Name servers are asked over TCP where an answer is long.
const NAMES: u16 = 53;
/// Where systems keep the authorities that they trust.
const TRUSTED: [&str; 4] =
    ["/etc/ssl", "/etc/pki", "/usr/share/ca-certificates", "/usr/local/share/ca-certificates"];

/// What must stay allowed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// Directories, below which files are read.
    pub read: Vec<PathBuf>,
    /// TCP ports that are connected to, on any host.
    pub connect: Vec<u16>,
}

impl Reach {
    /// Of requests over this connection. What cannot be read is left out.
    pub fn of(connection: &Connection) -> Reach {
        let mut ports = BTreeSet::from(USUAL);
        ports.insert(NAMES);
        let mut files = kubeconfigs(connection);
        files.extend(connection.surroundings.of_user.clone());
        for found in files.clone().iter().filter_map(|path| Kubeconfig::read_from(path).ok()) {
            let clusters = found.clusters.iter().filter_map(|named| named.cluster.as_ref());
            for cluster in clusters {
                ports.extend(cluster.server.as_deref().and_then(port));
                files.extend(cluster.certificate_authority.iter().map(PathBuf::from));
            }
            files.extend(found.auth_infos.into_iter().filter_map(|named| named.auth_info).flat_map(files_of));
        }
        if connection.surroundings.in_cluster {
            ports.extend(in_cluster().ok().and_then(|config| port(&config.cluster_url.to_string())));
            files.push(POD_CREDENTIAL.into());
        }
        ports.extend(connection.url.as_deref().and_then(port));
        files.extend(connection.ca_file.clone());
        let mut read: BTreeSet<PathBuf> = TRUSTED.into_iter().map(PathBuf::from).collect();
        for file in files {
            // Where a link leads counts too.
            let real = file.canonicalize().ok();
            read.extend([Some(file), real].into_iter().flatten().filter_map(|file| directory(&file)));
        }
        Reach { read: read.into_iter().collect(), connect: ports.into_iter().collect() }
    }
}

fn directory(file: &Path) -> Option<PathBuf> {
    let parent = file.parent()?;
    Some(if parent.as_os_str().is_empty() { PathBuf::from(".") } else { parent.to_path_buf() })
}

fn files_of(user: AuthInfo) -> impl Iterator<Item = PathBuf> {
    let AuthInfo { token_file, client_certificate, client_key, .. } = user;
    [token_file, client_certificate, client_key].into_iter().flatten().map(PathBuf::from)
}

/// The port of a URL, or that of its scheme.
fn port(url: &str) -> Option<u16> {
    let uri: Uri = url.parse().ok()?;
    uri.port_u16().or_else(|| if uri.scheme_str() == Some("http") { Some(80) } else { Some(443) })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::Surroundings;
    use super::*;

    #[test]
    fn directories_of_the_credential_and_ports_of_the_servers_stay_in_reach() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kubeconfig");
        let text = "apiVersion: v1\nkind: Config\nclusters: [{name: a, cluster: {server: 'https://core:7443', \
                    certificate-authority: /etc/edge/ca.pem}}]\nusers: [{name: a, user: {tokenFile: \
                    /run/edge/token}}]\n";
        fs::write(&path, text).unwrap();
        let connection = Connection {
            url: Some("http://127.0.0.1".to_owned()),
            ca_file: Some("/etc/porch/ca.pem".into()),
            kubeconfig: Some(path),
            surroundings: Surroundings::default(),
            namespace: "default".to_owned(),
            repository: "edge".to_owned(),
            request_timeout: std::time::Duration::from_secs(1),
        };
        let Reach { read, connect } = Reach::of(&connection);
        for directory in [folder.path(), "/etc/edge".as_ref(), "/run/edge".as_ref(), "/etc/porch".as_ref()] {
            assert!(read.iter().any(|path| path == directory), "{directory:?} in {read:?}");
        }
        assert_eq!(connect, [53, 80, 443, 6_443, 7_443]);
    }
}
