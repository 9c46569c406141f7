//! The server itself: its port, its certificate and token, its processes, its costs, what it holds.

use std::time::{Duration, Instant};

use conductor_loop::fake_porch::{Costs, FakePorch, Fault, NAMESPACE, Options, Rule, Step, Tls};
use kube::api::{Api, ApiResource, DynamicObject, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use kube::{Client, Config};

use super::wire::{BASE, Wire};
use crate::support::until;

const KEY: &str = "conductor.example/intent-sha256";

fn start(options: Options) -> FakePorch {
    let porch = FakePorch::start(options).unwrap();
    porch.add_repository("r", NAMESPACE, "http://127.0.0.1:9446/r");
    porch
}

fn plain() -> Options {
    Options { tls: Tls::Off, ..Options::default() }
}

/// Lists the package revisions as the kubeconfig says.
async fn list(kubeconfig: &str) -> Result<usize, kube::Error> {
    let kubeconfig: Kubeconfig = Kubeconfig::from_yaml(kubeconfig).unwrap();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    config.default_retry = false;
    let client = Client::try_from(config).unwrap();
    let kind = GroupVersionKind::gvk("porch.kpt.dev", "v1alpha1", "PackageRevision");
    let api: Api<DynamicObject> = Api::namespaced_with(client, NAMESPACE, &ApiResource::from_gvk(&kind));
    Ok(api.list(&ListParams::default()).await?.items.len())
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[test]
fn the_kubeconfig_lets_a_client_in_until_the_token_changes() {
    let porch = start(Options { token: Some("s3cret".to_owned()), ..Options::default() });
    porch.put_foreign("r.a.w", conductor_loop::fake_porch::Stage::Draft, &[]);
    let kubeconfig = porch.kubeconfig();
    assert!(kubeconfig.contains("https://127.0.0.1:"));
    assert_eq!(run(list(&kubeconfig)).unwrap(), 1);
    porch.set_token(Some("rotated"));
    let refused = run(list(&kubeconfig)).unwrap_err();
    assert!(matches!(&refused, kube::Error::Api(status) if status.code == 401), "{refused:?}");
    assert_eq!(run(list(&porch.kubeconfig())).unwrap(), 1);
}

#[test]
fn a_bad_certificate_is_bad() {
    for tls in [Tls::Expired, Tls::WrongHost] {
        let porch = start(Options { tls, ..Options::default() });
        let refused = run(list(&porch.kubeconfig())).unwrap_err();
        let text = format!("{refused:?}").to_lowercase();
        assert!(text.contains("certificate"), "{tls:?}: {text}");
        assert!(porch.log().is_empty(), "{tls:?}");
    }
}

#[test]
fn the_data_outlive_a_stop_and_the_port_stays() {
    let porch = start(plain());
    let mut wire = Wire::new(porch.address());
    wire.create("r.a.w", (KEY, "k"));
    porch.stop();
    assert_eq!(wire.get(BASE).code, 0, "the connection was cut");
    assert_eq!(Wire::new(porch.address()).get(BASE).lost, Some(std::io::ErrorKind::ConnectionRefused));
    porch.resume();
    assert_eq!(Wire::new(porch.address()).move_to("r.a.w", "Proposed").code, 200);
    let audit = porch.audit();
    assert_eq!(audit.workspaces(KEY)["k"], ["r.a.w"]);
    assert_eq!((audit.packages().len(), audit.open().len()), (1, 1));
}

#[test]
fn what_a_killed_server_had_not_pushed_never_lands() {
    let porch = start(plain());
    let address = porch.address();
    porch.inject(Rule::once(Step::Create, Fault::Hold(Duration::from_mins(1))));
    let client = std::thread::spawn(move || Wire::new(address).create("r.a.w", (KEY, "k")));
    until("the request", || (porch.under_way() == 1).then_some(()));
    porch.restart();
    assert_eq!(client.join().unwrap().code, 0);
    let mut wire = Wire::new(porch.address());
    assert_eq!(wire.create("r.a.w", (KEY, "k")).code, 201, "its lock went with it");
    porch.release();
    assert_eq!(wire.create("r.b.w", (KEY, "l")).code, 201);
    let applied: Vec<bool> = porch.log().iter().map(|logged| logged.applied).collect();
    assert_eq!(applied, [false, true, true]);
}

#[test]
fn costs_are_paid_and_writes_to_one_url_come_one_after_the_other() {
    let factor = 0.5;
    let costs = Costs { factor, roll_backs: false };
    let porch = start(Options { costs, ..plain() });
    let address = porch.address();
    let begin = Instant::now();
    let clients: Vec<_> = (0..3)
        .map(|number| {
            std::thread::spawn(move || Wire::new(address).create(&format!("r.p{number}.w"), (KEY, "k")).code)
        })
        .collect();
    let codes: Vec<u16> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    assert_eq!(codes, [201; 3]);
    // A create costs at least 0.11 s.
    assert!(begin.elapsed() >= Duration::from_secs_f64(3.0 * 0.11 * factor), "{:?}", begin.elapsed());
    let begin = Instant::now();
    let mut wire = Wire::new(address);
    assert_eq!(wire.move_to("r.p0.w", "Proposed").code, 200);
    assert_eq!(wire.move_to("r.p0.w", "Published").code, 200);
    assert!(begin.elapsed() >= Duration::from_secs_f64(0.23 * factor), "{:?}", begin.elapsed());
    let log = porch.log();
    assert!(log.windows(2).all(|pair| pair[0].at <= pair[1].at));
}
