//! What is in the log, and what is left out of it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::{PATIENCE, Place, until};

/// Lines of one kind that one second may hold.
const CEILING: usize = 20;

/// L05: the log is limited, and tells what it left out even if nothing more happens.
#[test]
fn a_flood_of_refused_files_is_a_few_lines_and_an_exact_count() {
    let place = Place::new();
    let node = place.node().start();
    let (broken, odd) = (2_000, 600);
    for at in 0..broken {
        place.rename_in(&format!("intent-broken-{at}.json"), format!("{{ not json {at}").as_bytes());
        if at < odd {
            place.rename_in(&format!("intent-\u{1b}{at}.json"), b"{}");
        }
    }
    node.wait_settled(broken, PATIENCE);
    until("the odd names are counted", || {
        let counted = node.page().labelled("conductor_loop_faults_total", "fault", "bad-name");
        (counted >= odd as f64).then_some(())
    });
    let refusals = |line: &Value| line["fate"] == "refused" && line["reason"] == "json-syntax";
    let left_alone =
        |line: &Value| line["message"].as_str().is_some_and(|text| text.starts_with("left in place"));
    until("every line is written or told of", || {
        let lines = lines(&place);
        let told = |kind: &str| -> u64 {
            let of_it =
                lines.iter().filter(|line| line["kind"].as_str().is_some_and(|told| told.starts_with(kind)));
            of_it.filter_map(|line| line["suppressed"].as_u64()).sum()
        };
        let written = |which: &dyn Fn(&Value) -> bool| lines.iter().filter(|line| which(line)).count();
        let whole = written(&refusals) + told("refused json-syntax") as usize == broken
            && written(&left_alone) + told("conductor_loop::pipeline::hot:") as usize == odd;
        let suppressed = told("refused json-syntax") + told("conductor_loop::pipeline::hot:");
        let counted = node.page().value("conductor_loop_log_suppressed_total");
        (whole && suppressed > 0 && counted == suppressed as f64).then_some(())
    });
    for which in [&refusals as &dyn Fn(&Value) -> bool, &left_alone] {
        let mut seconds: BTreeMap<String, usize> = BTreeMap::new();
        for line in lines(&place).iter().filter(|line| which(line)) {
            *seconds.entry(line["time"].as_str().unwrap()[..19].to_owned()).or_default() += 1;
        }
        // A second of the clock can share two of the ceiling's.
        assert!(seconds.values().all(|&lines| lines <= 2 * CEILING), "{seconds:?}");
    }
    node.finish();
}

fn lines(place: &Place) -> Vec<Value> {
    // The last line may be half written.
    place.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}
