use std::time::Duration;

use crossbeam::channel::{self, Receiver};
use serde_json::json;
use tracing::{debug, error, info, subscriber, warn};

use super::*;
use crate::clock::{HandClock, Mono, Wall};

/// The lines that `speak` makes in one form, at 08:00:00.123 UTC.
fn lines_of(form: Form, speak: impl FnOnce()) -> Vec<String> {
    let (lines, heard) = heard_lines();
    let wall = Wall::parse("2026-11-21T08:00:00.123Z").expect("valid");
    let clock = Arc::new(HandClock::at(Mono(0), wall));
    let printer = Printer { form, clock, lines: lines.clone(), ceiling: Arc::default() };
    let subscriber = tracing_subscriber::registry().with(printer.with_filter(filter(LevelFilter::INFO)));
    subscriber::with_default(subscriber, speak);
    lines.flush();
    heard.try_iter().collect()
}

fn heard_lines() -> (Lines, Receiver<String>) {
    let (tell, heard) = channel::unbounded();
    let write = move |line: &[u8]| {
        tell.send(String::from_utf8_lossy(line).into_owned()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    };
    (Lines::to(write).expect("a thread"), heard)
}

fn delivered() {
    info!(name = "intent-7.json", took_ms = 7.5, attempts = 1u64, note = "two words", "delivered");
}

#[test]
fn text_is_one_short_line_with_the_fields_behind() {
    let expected =
        "08:00:00.123 INFO  delivered name=intent-7.json took_ms=7.5 attempts=1 note=\"two words\"\n";
    assert_eq!(lines_of(Form::Text { colour: false }, delivered), [expected]);
    let coloured = lines_of(Form::Text { colour: true }, || error!("gone"));
    assert_eq!(coloured, ["\x1b[2m08:00:00.123\x1b[0m \x1b[1;31mERROR\x1b[0m gone\n"]);
}

#[test]
fn json_is_one_object_with_typed_fields() {
    let lines = lines_of(Form::Json, delivered);
    let [line] = lines.as_slice() else { panic!("{lines:?}") };
    assert!(line.ends_with("}\n"));
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(line).expect("valid"),
        json!({
            "time": "2026-11-21T08:00:00.123Z", "level": "info", "message": "delivered",
            "name": "intent-7.json", "took_ms": 7.5, "attempts": 1, "note": "two words",
            "module": module_path!(),
        })
    );
}

#[test]
fn the_journal_gets_priority_message_and_prefixed_fields() {
    let (line, lines) = (line!(), lines_of(Form::Journal, || warn!(id = "9f2c", took_ms = 7, "pending")));
    let (module, file) = (module_path!(), file!());
    assert_eq!(
        lines,
        [format!(
            "PRIORITY=4\nSYSLOG_IDENTIFIER=conductor-loop\nMESSAGE=pending id=9f2c took_ms=7\n\
             CONDUCTOR_MODULE={module}\nCODE_FILE={file}\nCODE_LINE={line}\n\
             CONDUCTOR_INTENT_ID=9f2c\nCONDUCTOR_TOOK_MS=7\n"
        )]
    );
}

#[test]
fn no_name_can_forge_a_line_a_colour_or_a_journal_field() {
    let hostile = "x\nPRIORITY=0\n\x1b[2J\u{202e}";
    for form in [Form::Text { colour: false }, Form::Json, Form::Journal] {
        let honest = lines_of(form, || info!(name = "x", error = ?"x", "x"));
        let lines = lines_of(form, || info!(name = hostile, error = ?hostile, "{hostile}"));
        let count = |lines: &[String]| lines.concat().lines().count();
        assert_eq!(count(&lines), count(&honest), "{form:?}");
        assert!(!lines.concat().contains(['\x1b', '\u{202e}']), "{form:?}");
    }
}

#[test]
fn a_field_cannot_take_the_place_of_time_or_level() {
    let lines = lines_of(Form::Json, || info!(level = "fake", time = 0, "real"));
    assert!(lines[0].starts_with("{\"time\":\"2026-11-21T08:00:00.123Z\",\"level\":\"info\""), "{lines:?}");
}

#[test]
fn packages_are_heard_from_warnings_on() {
    let lines = lines_of(Form::Text { colour: false }, || {
        debug!("below the level");
        info!(target: "hyper::proto", "chatter");
        warn!(target: "hyper::proto", "trouble");
    });
    assert_eq!(lines, ["08:00:00.123 WARN  trouble\n"]);
}

#[test]
fn a_log_that_does_not_move_costs_lines_and_no_time() {
    let (let_go, held) = channel::bounded::<()>(0);
    let lines =
        Lines::to(move |_| held.recv().map_err(|_| io::ErrorKind::BrokenPipe.into())).expect("a thread");
    // One line may be in the hand of the thread.
    for _ in 0..QUEUED_LINES + 11 {
        lines.push("line\n".to_owned());
    }
    assert!((10..=11).contains(&lines.lost()), "{}", lines.lost());
    drop(let_go);
    lines.flush();
    assert_eq!(lines.lost(), QUEUED_LINES as u64 + 11, "a closed pipe loses lines, not the process");
    lines.push("line\n".to_owned());
    lines.flush();
    assert_eq!(lines.lost(), QUEUED_LINES as u64 + 12);
}

#[test]
fn the_end_of_the_process_does_not_wait_for_a_dead_log() {
    let (_let_go, held) = channel::bounded::<()>(0);
    let lines =
        Lines::to(move |_| held.recv().map_err(|_| io::ErrorKind::BrokenPipe.into())).expect("a thread");
    lines.push("line\n".to_owned());
    let began = std::time::Instant::now();
    lines.flush();
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_flood_of_one_kind_is_twenty_lines_a_second_and_one_that_tells_the_rest() {
    let (lines, heard) = heard_lines();
    let clock = Arc::new(HandClock::default());
    let form = Form::Text { colour: false };
    let printer = Printer { form, clock: clock.clone(), lines: lines.clone(), ceiling: Arc::default() };
    let account = Lost(printer.clone());
    let subscriber = tracing_subscriber::registry().with(printer.with_filter(filter(LevelFilter::INFO)));
    let refuse = |reason: &str| warn!(fate = "refused", reason, file = "intent-7.json", "no");
    subscriber::with_default(subscriber, || {
        (0..50).for_each(|_| refuse("schema"));
        refuse("empty");
        (0..30).for_each(|_| info!("another place"));
    });
    account.tell();
    lines.flush();
    let told: Vec<String> = heard.try_iter().collect();
    assert_eq!(told.len(), 20 + 1 + 20, "nothing is told before the second is over: {told:#?}");
    assert_eq!((account.suppressed(), account.lines()), (40, 0), "but counted at once");
    clock.advance(Duration::from_secs(1));
    account.tell();
    account.tell();
    lines.flush();
    let mut told: Vec<String> = heard.try_iter().map(|line| line[13..].to_owned()).collect();
    told.sort();
    assert_eq!(told.len(), 2, "each kind once: {told:#?}");
    let place = format!("kind={}:", module_path!());
    assert!(
        told[0].starts_with("INFO  suppressed 10 lines of this kind suppressed=10 ")
            && told[0].contains(&place)
    );
    assert_eq!(told[1], "WARN  suppressed 30 lines of this kind suppressed=30 kind=\"refused schema\"\n");
}

#[test]
fn words_without_end_are_one_kind_at_last() {
    let (lines, heard) = heard_lines();
    let clock = Arc::new(HandClock::default());
    let printer = Printer { form: Form::Json, clock, lines: lines.clone(), ceiling: Arc::default() };
    let subscriber = tracing_subscriber::registry().with(printer.with_filter(filter(LevelFilter::INFO)));
    subscriber::with_default(subscriber, || {
        (0..5_000).for_each(|at| info!(reason = format!("word-{at}"), "no closed set"));
    });
    lines.flush();
    assert_eq!(heard.try_iter().count(), 1024 + 20);
}

#[test]
fn auto_takes_the_journal_then_the_terminal_then_json() {
    assert_eq!(chosen(LogFormat::Auto, true, true), LogFormat::Journald);
    assert_eq!(chosen(LogFormat::Auto, true, false), LogFormat::Text);
    assert_eq!(chosen(LogFormat::Auto, false, false), LogFormat::Json);
    assert_eq!(chosen(LogFormat::Json, true, true), LogFormat::Json);
    let stderr = fstat(io::stderr()).expect("stderr is open");
    assert!(is_stderr(&format!("{}:{}", stderr.st_dev, stderr.st_ino)));
    assert!(!is_stderr("1:2") && !is_stderr("") && !is_stderr("x:y"));
}

#[test]
fn colour_gives_way_to_no_color_and_dumb_terminals() {
    let with = |key: &'static str, value: &'static str| move |k: &str| (k == key).then(|| value.to_owned());
    assert!(wants_colour(&|_| None));
    assert!(wants_colour(&with("NO_COLOR", "")));
    assert!(!wants_colour(&with("NO_COLOR", "1")));
    assert!(!wants_colour(&with("TERM", "dumb")));
}

#[test]
fn an_unknown_level_is_named_with_the_known_ones() {
    let config = Log { level: "loud".to_owned(), format: LogFormat::Text };
    let fault = init(&config, false, &|_| None).map(drop).expect_err("there is no such level");
    assert_eq!(fault, "log.level \"loud\" is none of error, warn, info, debug, trace");
}
