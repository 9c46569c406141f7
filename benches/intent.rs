//! What one document costs from bytes to intent, beside serde_json as a row for comparison.

use std::hint::black_box;
use std::sync::Arc;

use conductor_loop::intent::Parser;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// A flat intent of exactly `size` bytes: a short document is filled up in its description, a long one
/// in the list of resources too.
fn flat(size: usize) -> Vec<u8> {
    let head = r#"{"intent_type":"scaling","target":"deployment/odu-high-phy","namespace":"oran-odu","replicas":5,"source":"planner","priority":7,"target_resources":["odu"#;
    let tail = r#""],"description":""}"#;
    let mut document = head.to_owned();
    let element = r#"","odu-high-phy-0123456789"#;
    while document.len() + element.len() + tail.len() + 900 < size {
        document.push_str(element);
    }
    let fill = size.saturating_sub(document.len() + tail.len());
    document.push_str(&tail.replace("\"}", &format!("{}\"}}", "x".repeat(fill))));
    assert_eq!(document.len(), size);
    document.into_bytes()
}

fn parse(c: &mut Criterion) {
    let mut group = c.benchmark_group("intent");
    for (name, raw) in [
        ("flat-300", flat(300)),
        ("flat-4096", flat(4096)),
        ("kubernetes", include_bytes!("../config/intents/intent-network-amf.json").to_vec()),
        ("refused", include_bytes!("../config/intents/intent-wrong-type.json").to_vec()),
    ] {
        group.throughput(Throughput::Bytes(raw.len() as u64));
        let mut parser = Parser::new(Arc::default());
        assert_eq!(parser.parse(&raw).is_err(), name == "refused");
        group.bench_with_input(BenchmarkId::new("parse", name), &raw, |b, raw| {
            b.iter(|| parser.parse(black_box(raw)));
        });
        group.bench_with_input(BenchmarkId::new("serde_json", name), &raw, |b, raw| {
            b.iter(|| serde_json::from_slice::<serde_json::Value>(black_box(raw)));
        });
    }
    group.finish();
}

criterion_group!(benches, parse);
criterion_main!(benches);
