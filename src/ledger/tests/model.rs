//! Judging against a plain model that keeps all history in a list, over random drops, ends, crashes and
//! batches that are taken back.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Act {
    Drop { name: u8, content: u8, scan: bool, ctime: i64, refused: bool },
    End { which: prop::sample::Index, fate: Fate },
    CloseAll,
    Crash,
    TakeBack { name: u8, content: u8 },
    Sleep(u64),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let fate = prop::sample::select(vec![Fate::Delivered, Fate::Delivered, Fate::Refused, Fate::Superseded]);
    let one = prop_oneof![
        8 => (0u8..4, 0u8..3, any::<bool>(), 0i64..20, prop::bool::weighted(0.1))
            .prop_map(|(name, content, scan, ctime, refused)| Act::Drop { name, content, scan, ctime, refused }),
        5 => (any::<prop::sample::Index>(), fate).prop_map(|(which, fate)| Act::End { which, fate }),
        1 => Just(Act::CloseAll),
        1 => Just(Act::Crash),
        2 => (0u8..4, 0u8..3).prop_map(|(name, content)| Act::TakeBack { name, content }),
        1 => (0u64..40).prop_map(Act::Sleep),
    ];
    prop::collection::vec(one, 1..60)
}

/// One accepted file of the model.
#[derive(Debug, Clone)]
struct Past {
    seq: u64,
    name: u8,
    content: u8,
    ctime: i64,
    valid: bool,
    fate: Option<Fate>,
    at: u64,
}

#[derive(Debug, PartialEq)]
enum Expected {
    Open { generation: u32 },
    Refused,
    Duplicate { of: u64 },
    Older { by_ctime: i64 },
}

struct Model {
    scope: DedupScope,
    window: u64,
    past: Vec<Past>,
    now: u64,
}

impl Model {
    fn same(&self, past: &Past, name: u8, content: u8) -> bool {
        past.valid && past.content == content && (self.scope == DedupScope::Content || past.name == name)
    }

    fn judge(&self, name: u8, content: u8, scan: bool, ctime: i64, refused: bool) -> Expected {
        if refused {
            return Expected::Refused;
        }
        let newest = self.past.iter().rev().find(|past| match self.scope {
            DedupScope::NameAndContent => past.valid && past.name == name,
            DedupScope::Content => past.valid && past.content == content,
        });
        if let Some(newest) = newest
            && newest.content == content
            && self.now - newest.at <= self.window
            && matches!(newest.fate, None | Some(Fate::Delivered))
        {
            return Expected::Duplicate { of: newest.seq };
        }
        let newest_ctime = self.past.iter().filter(|past| past.valid).map(|past| past.ctime).max();
        if let Some(newest) = newest_ctime.filter(|newest| scan && ctime < *newest) {
            return Expected::Older { by_ctime: newest };
        }
        let generation = self.past.iter().filter(|past| self.same(past, name, content)).count() as u32;
        Expected::Open { generation }
    }
}

fn check(scope: DedupScope, acts: Vec<Act>) -> Result<(), TestCaseError> {
    let window = Duration::from_secs(60);
    let mut bed = Bed::with(|settings| {
        settings.dedup_scope = scope;
        settings.dedup_window = window;
    });
    let mut model = Model { scope, window: window.as_secs(), past: Vec::new(), now: 0 };
    for act in acts {
        match act {
            Act::Drop { name, content, scan, ctime, refused } => {
                let mut entry = bed.file(&name.to_string(), &content.to_string());
                entry.identity.ctime_ns = ctime;
                entry.source = if scan { Source::Scan } else { Source::Event };
                entry.verdict = refused.then(|| refusal(Reason::Schema));
                let expected = model.judge(name, content, scan, ctime, refused);
                let (row, valid) = compare(&mut bed, &model, &entry, &expected)?;
                let fate = row.end.map(|end| end.fate);
                model.past.push(Past { seq: row.seq, name, content, ctime, valid, fate, at: model.now });
            }
            Act::End { which, fate } => {
                let open: Vec<usize> =
                    (0..model.past.len()).filter(|&at| model.past[at].fate.is_none()).collect();
                if !open.is_empty() {
                    let at = open[which.index(open.len())];
                    let row = bed.store().row(model.past[at].seq).unwrap();
                    bed.end(&row, fate);
                    model.past[at].fate = Some(fate);
                }
            }
            Act::CloseAll => {
                bed.close_all();
                while bed.store().sweep(3).unwrap() {}
            }
            Act::Crash => bed.crash(),
            Act::TakeBack { name, content } => {
                let entry = bed.file(&name.to_string(), &content.to_string());
                let mut batch = bed.store().begin().unwrap();
                batch.accept(&entry).unwrap();
            }
            Act::Sleep(seconds) => {
                bed.clock.advance(Duration::from_secs(seconds));
                model.now += seconds;
            }
        }
        let counts = bed.store().counts();
        prop_assert_eq!(counts.accepted, model.past.len() as u64);
        prop_assert_eq!(counts.pending, model.past.iter().filter(|past| past.fate.is_none()).count() as u64);
        prop_assert_eq!(counts.unaccounted(), 0);
    }
    Ok(())
}

fn compare(
    bed: &mut Bed,
    model: &Model,
    entry: &Entry,
    expected: &Expected,
) -> Result<(Row, bool), TestCaseError> {
    let judged = bed.accept(entry);
    match (judged, expected) {
        (Judged::Open(row), Expected::Open { generation }) => {
            prop_assert_eq!(row.generation, *generation);
            Ok((row, true))
        }
        (Judged::Ended(row), expected) => {
            let end = row.end.clone().unwrap();
            let found = match end.fate {
                Fate::Refused => Expected::Refused,
                Fate::Duplicate => {
                    let of =
                        model.past.iter().find(|p| Some(Id::derive(bed.store().id(), p.seq)) == end.related);
                    Expected::Duplicate { of: of.unwrap().seq }
                }
                _ => {
                    let by =
                        model.past.iter().find(|p| Some(Id::derive(bed.store().id(), p.seq)) == end.related);
                    Expected::Older { by_ctime: by.unwrap().ctime }
                }
            };
            prop_assert_eq!(&found, expected);
            Ok((row, end.fate == Fate::Superseded))
        }
        (judged, expected) => Err(TestCaseError::fail(format!("expected {expected:?}, found {judged:?}"))),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn judging_by_name_and_content_agrees_with_the_model(acts in acts()) {
        check(DedupScope::NameAndContent, acts)?;
    }

    #[test]
    fn judging_by_content_agrees_with_the_model(acts in acts()) {
        check(DedupScope::Content, acts)?;
    }
}
