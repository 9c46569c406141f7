//! Figures at full size; run in release with `--ignored`.

use std::time::Instant;

use super::*;

#[test]
#[ignore = "a million rows: cargo test --release --lib -- --ignored"]
fn a_million_rows_are_ready_within_a_second() {
    let mut bed = Bed::new();
    for batch in 0..1_000 {
        let entries: Vec<Entry> = (0..1_000)
            .map(|n| bed.file(&format!("intent-{batch:04}-{n:04}.json"), &format!("{batch} {n}")))
            .collect();
        let mut batch = bed.store().begin().unwrap();
        for mut entry in entries {
            entry.target = Some(target(&format!("workload-{}", entry.identity.ino % 1_000)));
            entry.payload = None;
            let Judged::Open(row) = batch.accept(&entry).unwrap() else { panic!("should be open") };
            let record = EndRecord {
                message: "x".repeat(60),
                remote: Some(receipt()),
                ..EndRecord::of(Fate::Delivered)
            };
            batch.end(row.seq, &record).unwrap();
        }
        batch.commit().unwrap();
        if bed.store().log_size().unwrap().bytes > 32 << 20 {
            bed.store().restart_log().unwrap();
        }
    }
    bed.store = None;
    let begun = Instant::now();
    bed.open();
    let took = begun.elapsed();
    let (keys, bytes) = bed.store().index_size();
    assert_eq!(keys, 1_000_000);
    assert!(bytes <= 30 * keys, "{bytes} bytes for {keys} keys");
    assert!(took < Duration::from_secs(1), "ready after {took:?}");
}
