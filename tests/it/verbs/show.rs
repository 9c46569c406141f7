//! `history show`: the story of one intent.

use serde_json::Value;

use crate::support::{Place, scale};

#[track_caller]
fn show(place: &Place, id: &Value) -> (String, Value) {
    let id = id.as_str().unwrap();
    let text = place.run(&["history", "show", id]).ended(0).stdout;
    (text, place.run(&["history", "show", id, "--json"]).ended(0).json())
}

#[test]
fn the_story_of_each_fate_is_told_with_the_daemon_up_and_down() {
    let place = Place::new();
    let node = place.node().start();
    place.rename_in("intent-1.json", &scale("odu", 3));
    let delivered = place.settled("intent-1.json");
    place.rename_in("intent-1.json", &scale("odu", 3));
    let duplicate = place.settled_times("intent-1.json", 2).pop().unwrap();
    place.rename_in("intent-2.json", b"{\n  \"intent_type\": \"scaling\"\n}\n");
    let refused = place.settled("intent-2.json");
    place.run(&["requeue", delivered["id"].as_str().unwrap(), "--yes"]).ended(0);
    let again = place.settled_times("intent-1.json", 3).pop().unwrap();

    for down in [false, true] {
        let (text, story) = show(&place, &delivered["id"]);
        for key in
            ["id", "intent_file", "sha256", "fate", "message", "target", "proof", "remote", "accepted_at"]
        {
            assert_eq!(story[key], delivered[key], "{key} of {story:#}");
        }
        let archived = place.processed("intent-1.json");
        assert_eq!(story["file_path"], archived.to_str().unwrap(), "{story:#}");
        let times = ["dropped_at", "accepted_at", "finished_at", "filed_at"]
            .map(|key| story[key].as_str().unwrap_or_default());
        assert!(times.is_sorted() && !times.contains(&""), "{story:#}");
        let relations: Vec<(&Value, &Value, &Value)> = story["relations"]
            .as_array()
            .unwrap()
            .iter()
            .map(|link| (&link["id"], &link["relation"], &link["to"]))
            .collect();
        let (old, twin, new) = (&delivered["id"], &duplicate["id"], &again["id"]);
        assert_eq!(
            relations,
            [(twin, &"duplicate_of".into(), old), (new, &"requeue_of".into(), old)],
            "{story:#}"
        );
        assert!(
            text.contains("duplicate of  this") && text.contains("  filed\n") && text.contains("revision 1"),
            "{text}"
        );

        let (text, story) = show(&place, twin);
        assert_eq!((&story["duplicate_of"], &story["fate"]), (old, &"duplicate".into()), "{story:#}");
        assert!(text.contains("this             duplicate of"), "{text}");

        let (text, story) = show(&place, &refused["id"]);
        assert_eq!(
            (&story["errors"], &story["file_path"]),
            (&refused["errors"], &place.failed("intent-2.json").to_str().unwrap().into())
        );
        assert!(text.contains("schema: ") && !text.contains("at sink"), "{text}");

        let (text, story) = show(&place, new);
        assert_eq!((&story["requeue_of"], &story["generation"]), (old, &1.into()), "{story:#}");
        assert_eq!(story.get("dropped_at"), None, "a repeat was not dropped: {story:#}");
        assert!(text.contains("request taken") && text.contains("revision 2"), "{text}");
        let long =
            text.lines().find(|line| line.len() > 80 && !line.contains(place.root().to_str().unwrap()));
        assert_eq!(long, None, "{text}");
        if !down {
            let ran = place.run(&["history", "show", "0123456789abcdef"]).ended(1);
            assert!(ran.stderr.contains("no intent 0123456789abcdef"), "{ran:?}");
            place.run(&["history", "show"]).ended(2);
            place.run(&["history", "--fate", "refused", "show", "0123456789abcdef"]).ended(2);
            continue;
        }
    }
    node.finish();
    assert_eq!(show(&place, &again["id"]).1["filing"], "closed");
    assert!(place.run(&["history", "--json"]).ended(0).stdout.contains("\"requeue_of\""));
}
