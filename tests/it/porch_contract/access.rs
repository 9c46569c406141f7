//! Whom the client trusts, who it says that it is, and what it refuses to do for that.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use conductor_loop::fake_porch::{Options, Tls};
use conductor_loop::submit::porch::api::{Api as _, Class, Fault};
use conductor_loop::submit::porch::client::{Connection, Surroundings};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use super::{Subject, begun};
use crate::support::{Porch, REPOSITORY, connection, porch_client};

const SECRET: &str = "tok-3f9a-secret";

fn guarded() -> Porch {
    Porch::with(Options { token: Some(SECRET.to_owned()), ..Options::default() })
}

async fn fault_of(connection: Connection) -> Fault {
    porch_client(connection).revisions("nf-a").await.expect_err("nobody may be talked to like that")
}

#[tokio::test]
async fn a_certificate_that_cannot_be_trusted_ends_it_before_the_credential_is_sent() {
    let stranger = Porch::start();
    for tls in [Tls::Expired, Tls::WrongHost, Tls::Good] {
        let token = Some(SECRET.to_owned());
        let porch = Porch::with(Options { tls, token, ..Options::default() });
        let mut connection = porch.by(porch.kubeconfig());
        if tls == Tls::Good {
            // An authority that did not sign it.
            connection.url = Some(porch.fake.url());
            connection.ca_file = Some(porch.file("ca.pem", stranger.fake.ca_pem().unwrap()));
        }
        let fault = fault_of(connection).await;
        assert_eq!(fault.class, Class::Tls, "{tls:?}: {fault}");
        assert!(fault.message.contains("certificate"), "{tls:?}: {fault}");
        assert!(porch.fake.log().is_empty(), "{tls:?}");
    }
}

#[tokio::test]
async fn a_server_that_speaks_plain_where_tls_is_expected_gets_nothing() {
    let porch = Porch::with(Options { tls: Tls::Off, token: Some(SECRET.to_owned()), ..Options::default() });
    let mut connection = porch.by(porch.kubeconfig_of(&format!("{{token: {SECRET}}}")));
    connection.url = Some(porch.fake.url().replace("http:", "https:"));
    let fault = fault_of(connection).await;
    assert_eq!(fault.class, Class::Tls, "{fault}");
    assert!(porch.fake.log().is_empty());
}

#[tokio::test]
async fn a_wrong_token_is_told_and_never_shown() {
    let porch = guarded();
    let fault = fault_of(porch.by(porch.kubeconfig_of("{token: tok-other}"))).await;
    assert_eq!((fault.class, fault.code), (Class::Auth, 401), "{fault}");
    assert!(!fault.message.contains("tok-"), "{fault}");
    let fault = fault_of(porch.by(porch.kubeconfig_of("{}"))).await;
    assert_eq!(fault.class, Class::Auth, "{fault}");
}

#[tokio::test]
async fn a_token_file_is_read_again_when_it_changes_without_a_failed_request() {
    let porch = guarded();
    let token = porch.file("token", &format!("{SECRET}\n"));
    let api = porch_client(porch.by(porch.kubeconfig_of(&format!("{{tokenFile: {}}}", token.display()))));
    api.revisions("nf-a").await.unwrap();
    for next in ["tok-next", "tok-after"] {
        porch.fake.set_token(Some(next));
        porch.file("token", next);
        api.revisions("nf-a").await.unwrap();
    }
    assert!(porch.fake.log().iter().all(|logged| logged.status == 200), "{:?}", porch.fake.short_log());
    porch.fake.set_token(Some("tok-last"));
    assert_eq!(api.revisions("nf-a").await.unwrap_err().class, Class::Auth);
    porch.file("token", "tok-last");
    api.revisions("nf-a").await.unwrap();
}

#[tokio::test]
async fn a_kubeconfig_is_read_again_when_it_changes_or_comes() {
    let porch = guarded();
    let path = porch.kubeconfig();
    fs::remove_file(&path).unwrap();
    let api = porch_client(porch.by(path));
    let fault = api.revisions("nf-a").await.unwrap_err();
    assert_eq!((fault.class, fault.code), (Class::Configuration, 0), "{fault}");
    assert!(fault.message.contains("sink.porch.kubeconfig"), "{fault}");
    porch.kubeconfig_of("{token: tok-old}");
    assert_eq!(api.revisions("nf-a").await.unwrap_err().class, Class::Auth);
    porch.kubeconfig();
    api.revisions("nf-a").await.unwrap();
}

#[tokio::test]
async fn no_program_is_run_for_a_credential() {
    let porch = guarded();
    let proof = porch.file("proof", "").with_file_name("it-ran");
    let exec = format!(
        "{{exec: {{apiVersion: client.authentication.k8s.io/v1, command: touch, args: [{}], interactiveMode: Never}}}}",
        proof.display()
    );
    for user in [&*exec, "{auth-provider: {name: gcp, config: {access-token: tok-x}}}"] {
        let fault = fault_of(porch.by(porch.kubeconfig_of(user))).await;
        assert_eq!((fault.class, fault.code), (Class::Auth, 0), "{fault}");
        assert!(fault.message.contains("plug-in") && fault.message.contains("tokenFile"), "{fault}");
    }
    assert!(!proof.exists());
    assert!(porch.fake.log().is_empty());
}

#[tokio::test]
async fn a_kubeconfig_that_is_none_or_that_others_can_write_is_refused_without_a_piece_of_it() {
    let porch = guarded();
    for text in [
        format!("users: [{{name: a, user: {{token: {SECRET}"),
        SECRET.to_owned(),
        format!("clusters: {{token: {SECRET}}}"),
        String::new(),
    ] {
        let fault = fault_of(porch.by(porch.file("kubeconfig", &text))).await;
        assert_eq!((fault.class, fault.code), (Class::Configuration, 0), "{text:?}: {fault}");
        assert!(!fault.message.contains(SECRET), "{fault}");
    }
    let path = porch.kubeconfig();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o620)).unwrap();
    let fault = fault_of(porch.by(path)).await;
    assert!(fault.class == Class::Configuration && fault.message.contains("chmod go-w"), "{fault}");
    let proxied = porch
        .fake
        .kubeconfig()
        .replace("  cluster:\n", "  cluster:\n    proxy-url: http://u:tok-p@127.0.0.1:9\n");
    let fault = fault_of(porch.by(porch.file("kubeconfig", &proxied))).await;
    assert!(fault.message.contains("proxy-url") && !fault.message.contains("tok-p"), "{fault}");
    assert!(porch.fake.log().is_empty());
}

#[tokio::test]
async fn a_way_to_the_server_is_found_by_itself_or_its_absence_told() {
    let porch = guarded();
    let path = porch.kubeconfig();
    let found = [
        Surroundings {
            credential: Some(path.clone()),
            kubeconfig: vec!["/nowhere".into()],
            ..Surroundings::default()
        },
        Surroundings {
            kubeconfig: vec![path.clone()],
            of_user: Some("/nowhere".into()),
            ..Surroundings::default()
        },
        Surroundings { credential: Some("/nowhere".into()), of_user: Some(path), ..Surroundings::default() },
    ];
    for surroundings in found {
        porch_client(Connection { surroundings, ..connection() }).revisions("nf-a").await.unwrap();
    }
    let of_user = Some(PathBuf::from("/nowhere"));
    let fault = fault_of(Connection {
        surroundings: Surroundings { of_user, ..Surroundings::default() },
        ..connection()
    })
    .await;
    assert!(
        fault.class == Class::Configuration && fault.message.contains("sink.porch.kubeconfig"),
        "{fault}"
    );
    let surroundings = Surroundings { in_cluster: true, ..Surroundings::default() };
    let fault = fault_of(Connection { surroundings, ..connection() }).await;
    assert!(fault.class == Class::Configuration && fault.message.contains("pod"), "{fault}");
}

#[tokio::test]
async fn packages_go_to_the_url_and_repositories_to_the_cluster() {
    let (core, porch) = (guarded(), guarded());
    let mut connection = core.by(core.kubeconfig());
    connection.url = Some(porch.fake.url());
    connection.ca_file = Some(porch.file("ca.pem", porch.fake.ca_pem().unwrap()));
    let api = porch_client(connection);
    let subject = Subject { api: &api, repository: REPOSITORY, package: "nf-a".to_owned() };
    api.create(&subject.draft('1', begun("scale"))).await.unwrap();
    let short = |porch: &Porch| porch.fake.log().iter().map(|logged| logged.short()).collect::<Vec<_>>();
    assert_eq!(short(&core), ["GET repositories/edge 200"]);
    assert_eq!(short(&porch), ["GET /apis/porch.kpt.dev 200", "POST packagerevisions 201"]);
}

#[tokio::test]
async fn plain_http_is_for_this_machine_and_carries_no_credential() {
    let porch = Porch::with(Options { tls: Tls::Off, token: Some(SECRET.to_owned()), ..Options::default() });
    let mut away = porch.by(porch.kubeconfig());
    away.url = Some("http://porch.example:7007".to_owned());
    let fault = fault_of(away).await;
    assert!(fault.class == Class::Configuration && fault.message.contains("https://"), "{fault}");
    // Here the server wants the token and is not given it.
    assert_eq!(fault_of(porch.by(porch.kubeconfig())).await.class, Class::Auth);
    porch.fake.set_token(None);
    porch.client().revisions("nf-a").await.unwrap();
}

/// A server that asks for a certificate of its authority, and knows of no revision.
struct Mutual {
    url: String,
    authority: String,
    certificate: String,
    key: String,
}

impl Mutual {
    fn start() -> Mutual {
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let signed = |name: &str| {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            (params.signed_by(&key, &authority).unwrap(), key)
        };
        let (server, server_key) = signed("127.0.0.1");
        let (client, client_key) = signed("conductor-loop");
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let secret = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(server_key.serialize_der()));
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(vec![server.der().clone()], secret)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        thread::spawn(move || serve(&listener, &Arc::new(config)));
        Mutual { url, authority: authority.pem(), certificate: client.pem(), key: client_key.serialize_pem() }
    }
}

fn serve(listener: &TcpListener, config: &Arc<ServerConfig>) {
    let body =
        r#"{"kind": "Status", "message": "packagerevisions.porch.kpt.dev \"edge.nf-a.i-1\" not found"}"#;
    for stream in listener.incoming().map_while(Result::ok) {
        let mut stream = StreamOwned::new(ServerConnection::new(Arc::clone(config)).unwrap(), stream);
        let mut head = [0; 1];
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\n") && stream.read_exact(&mut head).is_ok() {
            seen.push(head[0]);
        }
        // One that was not let in hears nothing.
        let _ = write!(
            stream,
            "HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.conn.send_close_notify();
        let _ = stream.flush();
    }
}

#[tokio::test]
async fn a_client_certificate_opens_and_its_absence_does_not() {
    let server = Mutual::start();
    let porch = Porch::start();
    let paths: Vec<String> =
        [("ca.pem", &server.authority), ("client.pem", &server.certificate), ("client.key", &server.key)]
            .map(|(name, text)| porch.file(name, text).display().to_string())
            .into();
    let kubeconfig = |user: &str| {
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: a\ncontexts: [{{name: a, context: {{cluster: a, user: a}}}}]\n\
             clusters: [{{name: a, cluster: {{server: '{}', certificate-authority: {}}}}}]\nusers: [{{name: a, user: {user}}}]\n",
            server.url, paths[0]
        );
        porch.by(porch.file("kubeconfig", &text))
    };
    let known = kubeconfig(&format!("{{client-certificate: {}, client-key: {}}}", paths[1], paths[2]));
    assert_eq!(porch_client(known).revision("edge.nf-a.i-1").await, Ok(None));
    let fault = porch_client(kubeconfig("{}")).revision("edge.nf-a.i-1").await.unwrap_err();
    assert_eq!(fault.class, Class::Tls, "{fault}");
    // A certificate that belongs to another key is told before anybody is asked.
    let other = porch.file("client.key", &KeyPair::generate().unwrap().serialize_pem());
    let wrong = kubeconfig(&format!("{{client-certificate: {}, client-key: {}}}", paths[1], other.display()));
    let fault = porch_client(wrong).revision("edge.nf-a.i-1").await.unwrap_err();
    assert_eq!((fault.class, fault.code), (Class::Auth, 0), "{fault}");
    assert!(!fault.message.contains("PRIVATE"), "{fault}");
}
