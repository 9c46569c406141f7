//! Whatever the bytes, an answer comes: no panic, a place in the document, messages of bounded size.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;

const SAMPLES: [&[u8]; 3] = [
    include_bytes!("../../../config/intents/intent-scale-odu.json"),
    include_bytes!("../../../config/intents/intent-network-amf.json"),
    include_bytes!("../../../config/intents/intent-contract-nf-sim.json"),
];

fn token() -> impl Strategy<Value = &'static str> {
    select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"a\"",
        "\"b\"",
        "\"\\u0061\"",
        "1",
        "-0",
        "0.5",
        "1e9",
        "-1.5E-3",
        "true",
        "false",
        "null",
        " ",
        "\n",
        "\"",
        "\\",
        "tru",
        "é",
        "-",
        "0",
        "1e400",
        "18446744073709551616",
        "\t",
        "\"replicas\"",
        "\"intent_type\":\"scaling\"",
        "\"\\n\"",
        "/",
        "'",
    ])
}

fn check(raw: &[u8]) -> Result<Intent, Refusal> {
    let mut outcome = None;
    within(Duration::from_millis(200), || outcome = Some(parse(raw)));
    let outcome = outcome.expect("an outcome");
    if let Err(refusal) = &outcome {
        let size = raw.len() as u32 + 1;
        assert!((1..=10).contains(&refusal.errors.len()), "{refusal:?}");
        for error in &refusal.errors {
            assert!(error.path.len() < 2500 && error.message.len() < 2500, "{error:?}");
            assert!(error.line.is_some_and(|line| line <= size), "{error:?}");
            assert!(error.column.is_some_and(|column| column <= size), "{error:?}");
            assert!(!error.message.contains("the parser refuses it"), "{error:?}");
        }
        assert!(!refusal.to_string().chars().any(char::is_control));
    }
    outcome
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_get_an_answer(raw in vec(any::<u8>(), 0..600)) {
        let _ = check(&raw);
    }

    #[test]
    fn any_damage_to_a_valid_document_gets_an_answer(
        sample in select(SAMPLES.to_vec()),
        damage in vec((any::<Index>(), any::<u8>(), 0..3), 1..6),
    ) {
        let mut raw = sample.to_vec();
        for (place, byte, act) in damage {
            let at = place.index(raw.len());
            match act {
                0 => raw[at] = byte,
                1 => raw.insert(at, byte),
                _ => drop(raw.remove(at)),
            }
        }
        let _ = check(&raw);
    }

    #[test]
    fn the_grammar_is_that_of_serde_json(tokens in vec(token(), 0..40), nested: bool) {
        let mut raw = tokens.concat();
        if nested {
            raw = format!("[{raw}]");
        }
        let outcome = check(raw.as_bytes());
        let reason = outcome.as_ref().err().map(|refusal| refusal.reason);
        let broken = matches!(reason, Some(Reason::Empty | Reason::TruncatedJson | Reason::JsonSyntax));
        match serde_json::from_str::<serde_json::Value>(&raw) {
            Ok(_) => prop_assert!(!broken, "{} {:?}", raw, outcome),
            Err(error) if error.to_string().contains("out of range") => {}
            Err(error) => {
                prop_assert!(broken || reason == Some(Reason::JsonDepth), "{} {:?}", raw, outcome);
                if matches!(reason, Some(Reason::Empty | Reason::TruncatedJson)) {
                    prop_assert!(error.is_eof(), "{} {:?} {}", raw, outcome, error);
                }
            }
        }
    }

    #[test]
    fn every_beginning_of_a_document_is_cut_off_and_nothing_else(
        sample in select(SAMPLES.to_vec()),
        text in "\\PC{0,12}",
        place in any::<Index>(),
    ) {
        let text = serde_json::to_string(&text).expect("a string").replace('a', "\\ud83d\\ude00");
        let whole = std::str::from_utf8(sample).expect("UTF-8").trim_end().replace("\"high-phy\"", &text);
        let whole = whole.replacen('{', &format!("{{\"x\":{text},"), 1).into_bytes();
        let cut = &whole[..place.index(whole.len())];
        let refusal = check(cut).expect_err("refused");
        prop_assert!(refusal.may_be_unfinished(), "{:?} {:?}", String::from_utf8_lossy(cut), refusal);
    }
}
