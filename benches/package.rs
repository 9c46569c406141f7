//! What rendering `workload.yaml` costs, the hot path of the folder sink: under 2 µs for an intent of
//! ten fields. Criterion's own figures; the machine is named by `conductor-loop bench`.

use std::hint::black_box;

use conductor_loop::fate::{Id, Sha};
use conductor_loop::intent::{Intent, IntentType, Target, TargetKind};
use conductor_loop::package::{Base, Blueprint, Stamp, render};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// An intent with the fields that producers send, and one free text of `text` bytes.
fn intent(text: &str) -> Intent {
    let fields = [
        ("intent_type", "scaling"),
        ("target", "odu-high-phy"),
        ("namespace", "oran-odu"),
        ("replicas", "5"),
        ("reason", text),
        ("source", "planner"),
        ("correlation_id", "c0ffee00-0000-4000-8000-000000000007"),
        ("priority", "7"),
        ("valid_until", "2026-11-21T08:00:00Z"),
        ("constraints", r#"{"max_replicas":10,"min_replicas":1,"allowed_namespaces":["oran-odu"]}"#),
    ];
    Intent {
        intent_type: IntentType::Scaling,
        target: Target {
            namespace: "oran-odu".into(),
            kind: TargetKind::Deployment,
            name: "odu-high-phy".into(),
        },
        replicas: Some(5),
        priority: 7,
        valid_until: None,
        fields: fields.map(|(key, value)| (key.into(), value.into())).into(),
    }
}

const BLUEPRINT: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: odu-high-phy
  labels:
    app: odu
spec:
  replicas: 1 # from the capacity plan
  selector:
    matchLabels: {app: odu}
  template:
    metadata:
      labels: {app: odu}
    spec:
      containers:
      - name: odu
        image: registry.local/odu:1
";

fn rendering(criterion: &mut Criterion) {
    let sha = Sha::of(b"payload");
    let stamp = Stamp { id: Id(0x9f2c_31aa_07d1_4be2), sha: &sha, revision: 1234 };
    let plain = intent("more cells in the evening");
    let blueprint = Blueprint::parse(BLUEPRINT.to_owned(), &plain.target).expect("a blueprint");
    let texts = [("4 KiB plain", "plain text ".repeat(372)), ("4 KiB escapes", "\u{85}\"\n".repeat(1024))];
    let long: Vec<_> = texts.iter().map(|(name, text)| (*name, intent(text))).collect();

    let mut group = criterion.benchmark_group("render");
    let mut out = Vec::new();
    let mut bench = |name: &str, intent: &Intent, base: Base<'_>| {
        out.clear();
        render(&mut out, intent, &stamp, base);
        group.throughput(Throughput::Bytes(out.len() as u64));
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| {
                out.clear();
                render(&mut out, black_box(intent), &stamp, black_box(base));
                black_box(out.len())
            });
        });
    };
    bench("owned", &plain, Base::Owned(5));
    bench("config map alone", &plain, Base::Absent);
    bench("blueprint", &plain, Base::Blueprint(&blueprint, 5));
    for (name, intent) in &long {
        bench(name, intent, Base::Owned(5));
    }
    group.finish();
}

criterion_group!(benches, rendering);
criterion_main!(benches);
