//! Who we are and whom we talk to: kubeconfig, certificates, token.
//!
//! Read when a connection is set up, and again when one of the files changes; a token file that rotates is one
//! of them. Nothing secret is in a message or in `Debug`. Refused, each with what to do instead: files that
//! others can write (C03), exec plug-ins and auth providers (they run programs), proxies, and plain http to
//! another machine. Over plain http no credential is sent. A kubeconfig is at most 1 MiB.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::Config;
use kube::config::{AuthInfo, Cluster, Context, KubeConfigOptions, Kubeconfig, KubeconfigError};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::super::api::{Class, Fault};
use super::Surroundings;
use crate::config::is_this_machine;

/// Until a connection is there: name, TCP and TLS.
pub(super) const CONNECT: Duration = Duration::from_secs(5);
/// Where a pod finds the authority that its server's certificate leads back to.
pub(super) const POD_CREDENTIAL: &str = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt";
/// Largest kubeconfig or certificate file in bytes.
const LARGEST: u64 = 1 << 20;

/// What settings and surroundings say of servers and credential.
pub(in crate::submit) struct Way<'a> {
    /// The section of the settings: `sink.porch`.
    pub(in crate::submit) section: &'static str,
    /// Key `url`: where Porch is, if not behind the server of the kubeconfig.
    pub(in crate::submit) url: Option<&'a str>,
    /// Key `ca_file`, for that url.
    pub(in crate::submit) ca_file: Option<&'a Path>,
    /// Key `kubeconfig`.
    pub(in crate::submit) kubeconfig: Option<&'a Path>,
    /// Where to look when no kubeconfig is configured.
    pub(in crate::submit) surroundings: &'a Surroundings,
    /// What to do where nothing names a server.
    pub(in crate::submit) advice: &'static str,
}

/// What a connection is made from.
pub(in crate::submit) struct Access {
    /// For objects of the cluster itself.
    pub(in crate::submit) core: Config,
    /// For packages.
    pub(in crate::submit) porch: Config,
    /// What it was read from.
    pub(in crate::submit) marks: Marks,
    /// What it says of us.
    pub(in crate::submit) whom: Whom,
}

/// Who we are to the cluster, and what says so. Nothing secret.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Whom {
    /// The kubeconfig; several if `$KUBECONFIG` names them. None in a pod, and where there is a url alone.
    pub kubeconfigs: Vec<PathBuf>,
    /// Every file that the credential was read from.
    pub files: Vec<PathBuf>,
    /// The context in use.
    pub context: Option<String>,
    /// The user of that context, as the kubeconfig names it.
    pub user: Option<String>,
    /// The kind of its credential: `token`.
    pub credential: &'static str,
}

/// A fault of ours that no request was needed for.
pub(in crate::submit) fn refused(class: Class, message: String) -> Fault {
    Fault { class, code: 0, message, after: None }
}

fn misconfigured(message: String) -> Fault {
    refused(Class::Configuration, message)
}

/// Files, and what tells that one of them is another than before.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::submit) struct Marks(Vec<(PathBuf, Option<[i128; 4]>)>);

impl Marks {
    /// As the files are now.
    pub(in crate::submit) fn of(files: impl IntoIterator<Item = PathBuf>) -> Marks {
        let mark = |about: Metadata| {
            let changed = i128::from(about.ctime()) * 1_000_000_000 + i128::from(about.ctime_nsec());
            [about.dev().into(), about.ino().into(), about.size().into(), changed]
        };
        let files: BTreeSet<PathBuf> = files.into_iter().collect();
        Marks(files.into_iter().map(|path| (path.clone(), fs::metadata(&path).ok().map(mark))).collect())
    }

    /// Whether a file has changed, come or gone.
    pub(in crate::submit) fn are_old(&self) -> bool {
        *self != Marks::of(self.0.iter().map(|(path, _)| path.clone()))
    }
}

impl Access {
    /// Reads what the settings and the surroundings name.
    pub(in crate::submit) async fn read(way: &Way<'_>) -> Result<Access, Fault> {
        let paths = kubeconfigs(way);
        for path in &paths {
            look(path, "kubeconfig", &format!("correct {}.kubeconfig", way.section))?;
        }
        let mut files: Vec<PathBuf> = paths.clone();
        files.extend(way.ca_file.map(Path::to_path_buf));
        // Marked before they are read: what changes meanwhile is read again.
        let first = Marks::of(files.clone());
        let mut whom = Whom { kubeconfigs: paths.clone(), ..Whom::default() };
        let core = match paths.as_slice() {
            [] if way.surroundings.in_cluster => Some(in_cluster(way)?),
            [] => None,
            paths => Some(from_kubeconfig(paths, &mut files, &mut whom).await?),
        };
        let porch = match (way.url, &core) {
            (None, Some(core)) => core.clone(),
            (Some(url), core) => elsewhere(url, way.ca_file, core.as_ref())?,
            (None, None) => {
                let advice = way.advice;
                return Err(misconfigured(format!("there is no kubeconfig and no cluster around; {advice}")));
            }
        };
        let mut core = core.unwrap_or_else(|| porch.clone());
        whom.credential = credential(&core.auth_info);
        if paths.is_empty() && way.surroundings.in_cluster {
            files.push(POD_CREDENTIAL.into());
        }
        files.extend([&core, &porch].into_iter().flat_map(referred));
        let marks = Marks::of(files);
        whom.files = marks.0.iter().map(|(path, _)| path.clone()).collect();
        if first.are_old() {
            return Err(misconfigured(
                "the kubeconfig changed while it was read; it is read again".to_owned(),
            ));
        }
        let mut porch = porch;
        for config in [&mut core, &mut porch] {
            harden(config)?;
        }
        Ok(Access { core, porch, marks, whom })
    }
}

/// The kubeconfig files: the configured one, systemd's credential, `$KUBECONFIG`, or the user's; none in a pod.
pub(super) fn kubeconfigs(way: &Way<'_>) -> Vec<PathBuf> {
    let around = way.surroundings;
    match way.kubeconfig {
        Some(path) => vec![path.to_path_buf()],
        None => match around.credential.iter().find(|path| path.is_file()) {
            Some(path) => vec![path.clone()],
            None if !around.kubeconfig.is_empty() => around.kubeconfig.clone(),
            None => around.of_user.iter().filter(|path| path.is_file()).cloned().collect(),
        },
    }
}

/// A plain file of reasonable size that only its owner can write.
fn look(path: &Path, what: &str, advice: &str) -> Result<(), Fault> {
    let place = path.display();
    let about = fs::metadata(path)
        .map_err(|err| misconfigured(format!("{what} {place} cannot be read: {err}; {advice}")))?;
    let mode = about.permissions().mode();
    if !about.is_file() || about.len() > LARGEST {
        return Err(misconfigured(format!("{what} {place} is no file of at most 1MiB; {advice}")));
    }
    if mode & 0o022 != 0 {
        let mode = mode & 0o7777;
        let message =
            format!("{what} {place} is writable by others (mode {mode:04o}); run: chmod go-w {place}");
        return Err(misconfigured(message));
    }
    Ok(())
}

async fn from_kubeconfig(
    paths: &[PathBuf],
    files: &mut Vec<PathBuf>,
    whom: &mut Whom,
) -> Result<Config, Fault> {
    let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    let names = names.join(":");
    let failed = |err: KubeconfigError| misconfigured(format!("kubeconfig {names}: {}", plain(&err)));
    let mut merged = Kubeconfig::default();
    for path in paths {
        merged = Kubeconfig::read_from(path).and_then(|next| merged.merge(next)).map_err(failed)?;
    }
    whom.context.clone_from(&merged.current_context);
    whom.user = chosen(&merged).and_then(|context| context.user.clone());
    if let Some(cluster) = chosen_cluster(&merged) {
        files.extend(cluster.certificate_authority.iter().map(PathBuf::from));
        if cluster.proxy_url.is_some() {
            return Err(misconfigured(format!(
                "kubeconfig {names}: proxy-url is not supported; take it out"
            )));
        }
    }
    let mut config =
        Config::from_custom_kubeconfig(merged, &KubeConfigOptions::default()).await.map_err(failed)?;
    if config.auth_info.exec.is_some() || config.auth_info.auth_provider.is_some() {
        let message = format!(
            "kubeconfig {names}: its user gets the credential from a plug-in, and programs are not run for that; \
             give it a token, a tokenFile or a client certificate"
        );
        return Err(refused(Class::Auth, message));
    }
    if config.accept_invalid_certs {
        tracing::warn!(
            "kubeconfig {names}: insecure-skip-tls-verify is on: anybody on the way can read the token"
        );
    }
    // $HTTPS_PROXY, which is not supported either, is not meant for the cluster.
    config.proxy_url = None;
    Ok(config)
}

/// What is wrong, without a piece of the file: it may be the token.
fn plain(err: &KubeconfigError) -> String {
    match err {
        KubeconfigError::Parse(err) => match err.location() {
            Some(at) => format!("line {} column {} is not as it should be", at.line(), at.column()),
            None => "this is no kubeconfig".to_owned(),
        },
        other => other.to_string(),
    }
}

fn chosen_cluster(kubeconfig: &Kubeconfig) -> Option<&Cluster> {
    let context = chosen(kubeconfig)?;
    kubeconfig.clusters.iter().find(|cluster| cluster.name == context.cluster)?.cluster.as_ref()
}

fn chosen(kubeconfig: &Kubeconfig) -> Option<&Context> {
    let current = kubeconfig.current_context.as_ref()?;
    kubeconfig.contexts.iter().find(|context| context.name == *current)?.context.as_ref()
}

/// What we show of ourselves, by its kind alone.
fn credential(user: &AuthInfo) -> &'static str {
    let AuthInfo { token, token_file, client_certificate, client_certificate_data, username, .. } = user;
    match () {
        () if token_file.is_some() => "token file",
        () if token.is_some() => "token",
        () if client_certificate.is_some() || client_certificate_data.is_some() => "client certificate",
        () if username.is_some() => "password",
        () => "no credential",
    }
}

pub(super) fn in_cluster(way: &Way<'_>) -> Result<Config, Fault> {
    let section = way.section;
    Config::incluster_env()
        .map_err(|err| misconfigured(format!("the pod's own credential: {err}; set {section}.kubeconfig")))
}

/// The server at `url`, with the credential of the cluster's client.
fn elsewhere(url: &str, ca_file: Option<&Path>, core: Option<&Config>) -> Result<Config, Fault> {
    let uri = url.parse().map_err(|err| misconfigured(format!("sink.porch.url {url}: {err}")))?;
    let mut config = Config::new(uri);
    if let Some(core) = core {
        config.auth_info = core.auth_info.clone();
        config.root_cert.clone_from(&core.root_cert);
        config.root_cert_file.clone_from(&core.root_cert_file);
    }
    if let Some(path) = ca_file {
        config.root_cert = Some(certificates(path)?);
        config.root_cert_file = None;
    }
    Ok(config)
}

fn certificates(path: &Path) -> Result<Vec<Vec<u8>>, Fault> {
    let what = "certificate file";
    look(path, what, "correct sink.porch.ca_file")?;
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(found) if !found.is_empty() => Ok(found.iter().map(|der| der.to_vec()).collect()),
        Ok(_) => Err(misconfigured(format!("{what} {} holds no PEM certificate", path.display()))),
        Err(err) => Err(misconfigured(format!("{what} {}: {err}", path.display()))),
    }
}

/// The files that a configuration refers to.
fn referred(config: &Config) -> Vec<PathBuf> {
    let AuthInfo { token_file, client_certificate, client_key, .. } = &config.auth_info;
    let named = [token_file, client_certificate, client_key].into_iter().flatten().map(PathBuf::from);
    named.chain(config.root_cert_file.clone()).collect()
}

/// One attempt, quickly given up where nobody answers; the token as it is now.
fn harden(config: &mut Config) -> Result<(), Fault> {
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = None;
    config.write_timeout = None;
    let server = config.cluster_url.to_string();
    if config.cluster_url.scheme_str() != Some("https") {
        if !is_this_machine(&server) {
            let message = format!("{server} is plain http, which is for this machine alone; write https://");
            return Err(misconfigured(message));
        }
        config.auth_info = AuthInfo::default();
    }
    if let Some(file) = config.auth_info.token_file.take() {
        let text = fs::read_to_string(&file)
            .map_err(|err| refused(Class::Auth, format!("token file {file} cannot be read: {err}")))?;
        config.auth_info.token = Some(text.trim().to_owned().into());
    }
    Ok(())
}
