use super::*;

const OUT: Place = Place::Out;

fn put(disk: &MemoryDisk, name: &str, bytes: &[u8]) {
    disk.create(OUT, Path::new(name), bytes, 0o644).unwrap();
}

fn swap(disk: &MemoryDisk, name: &str, bytes: &[u8]) {
    disk.replace(OUT, Path::new(name), Path::new(&format!(".{name}.tmp")), bytes, 0o644).unwrap();
}

fn get(disk: &MemoryDisk, name: &str) -> Option<Vec<u8>> {
    disk.read(OUT, Path::new(name), usize::MAX).unwrap()
}

fn listed(disk: &MemoryDisk, at: Place) -> Vec<OsString> {
    let mut names = Vec::new();
    disk.list(at, Path::new(""), &mut |name| names.push(name.to_owned())).unwrap();
    names
}

/// What is found under a name after a power cut with each of many seeds.
fn outcomes(disk: &MemoryDisk, promise: Promise, name: &str) -> Vec<Option<Vec<u8>>> {
    (0..2000).map(|seed| get(&disk.power_cut(seed, promise), name)).collect()
}

#[test]
fn what_was_flushed_survives_every_power_cut() {
    let disk = MemoryDisk::new();
    put(&disk, "a", b"one");
    disk.flush().unwrap();
    put(&disk, "b", b"two");
    let found = outcomes(&disk, Promise::Nothing, "a");
    assert!(found.iter().all(|bytes| bytes.as_deref() == Some(b"one")));
}

#[test]
fn an_unflushed_file_is_whole_torn_empty_or_gone() {
    let disk = MemoryDisk::new();
    put(&disk, "a", b"content");
    let found = outcomes(&disk, Promise::ContentBeforeReplace, "a");
    assert!(found.contains(&None));
    for wanted in [&b"content"[..], b"", b"cont", b"cont\0\0\0"] {
        assert!(found.contains(&Some(wanted.to_vec())), "{wanted:?}");
    }
}

#[test]
fn a_replacement_comes_out_old_or_new_where_that_is_promised() {
    let disk = MemoryDisk::new();
    put(&disk, "a", b"old");
    disk.flush().unwrap();
    swap(&disk, "a", b"new");
    let found = outcomes(&disk, Promise::ContentBeforeReplace, "a");
    assert!(found.iter().flatten().all(|bytes| bytes == b"old" || bytes == b"new"));
    assert!(outcomes(&disk, Promise::Nothing, "a").contains(&Some(Vec::new())));
}

#[test]
fn a_file_goes_through_its_history_in_order() {
    let disk = MemoryDisk::new();
    put(&disk, "a", b"0");
    disk.flush().unwrap();
    for version in [b"1", b"2", b"3"] {
        swap(&disk, "a", version);
    }
    let found = outcomes(&disk, Promise::ContentBeforeReplace, "a");
    for version in [b"0", b"1", b"2", b"3"] {
        assert!(found.contains(&Some(version.to_vec())));
    }
    assert!(found.iter().all(Option::is_some), "a replaced name is never without a file");
}

#[test]
fn a_lost_directory_takes_its_files_along() {
    let disk = MemoryDisk::new();
    disk.make_dir(OUT, Path::new("d"), 0o755).unwrap();
    put(&disk, "d/a", b"x");
    disk.rename((OUT, Path::new("d")), (OUT, Path::new("e")), Clobber::Never).unwrap();
    let mut seen = [false; 3];
    for seed in 0..2000 {
        let after = disk.power_cut(seed, Promise::Nothing);
        let (old, new) = (get(&after, "d/a"), get(&after, "e/a"));
        assert!(old.is_none() || new.is_none());
        seen[usize::from(old.is_some()) + 2 * usize::from(new.is_some())] = true;
    }
    assert_eq!(seen, [true; 3]);
}

#[test]
fn what_is_appended_never_costs_what_was_there() {
    let disk = MemoryDisk::new();
    let append = |bytes| disk.append(OUT, Path::new("log"), bytes, 0o640).unwrap();
    append(b"first\n");
    disk.flush().unwrap();
    append(b"second\n");
    let found = outcomes(&disk, Promise::Nothing, "log");
    assert!(found.iter().flatten().all(|bytes| bytes.starts_with(b"first\n")));
}

#[test]
fn one_seed_gives_one_disk() {
    let disk = MemoryDisk::new();
    for number in 0..50 {
        put(&disk, &format!("file-{number}"), b"content");
    }
    let cut = |seed| {
        let after = disk.power_cut(seed, Promise::Nothing);
        listed(&after, OUT).into_iter().map(|name| get(&after, name.to_str().unwrap())).collect::<Vec<_>>()
    };
    assert!((0..20).all(|seed| cut(seed) == cut(seed)));
    assert!((0..20).any(|seed| cut(seed) != cut(seed + 1)));
}

#[test]
fn the_disk_that_was_cut_goes_on_unharmed() {
    let disk = MemoryDisk::new();
    put(&disk, "a", b"x");
    for seed in 0..20 {
        let _ = disk.power_cut(seed, Promise::Nothing);
    }
    assert_eq!(get(&disk, "a").as_deref(), Some(&b"x"[..]));
}

#[test]
fn a_chosen_call_fails_once_and_changes_nothing() {
    let disk = MemoryDisk::new();
    disk.fail_call(2, io::ErrorKind::StorageFull.into());
    put(&disk, "a", b"x");
    let failed = disk.create(OUT, Path::new("b"), b"y", 0o644).unwrap_err();
    assert_eq!(failed.kind(), io::ErrorKind::StorageFull);
    assert_eq!(get(&disk, "b"), None);
    put(&disk, "b", b"y");
    assert_eq!(disk.calls(), 4);
}

#[test]
fn an_outage_fails_every_call_until_it_ends() {
    let disk = MemoryDisk::new();
    disk.outage(Some(libc::EIO));
    for _ in 0..3 {
        let failed = disk.read(OUT, Path::new("a"), 1).unwrap_err();
        assert_eq!(failed.raw_os_error(), Some(libc::EIO));
    }
    disk.outage(None);
    assert_eq!(get(&disk, "a"), None);
}

#[test]
fn errors_are_those_of_a_real_file_system() {
    let disk = MemoryDisk::new();
    put(&disk, "file", b"x");
    disk.make_dir(OUT, Path::new("full"), 0o755).unwrap();
    put(&disk, "full/a", b"x");
    disk.make_dir(OUT, Path::new("other"), 0o755).unwrap();
    disk.plant(OUT, Path::new("link"), EntryKind::Symlink).unwrap();
    let rename = |from: &str, to: &str, clobber| {
        disk.rename((OUT, Path::new(from)), (OUT, Path::new(to)), clobber).unwrap_err().kind()
    };
    assert_eq!(rename("gone", "x", Clobber::Replace), io::ErrorKind::NotFound);
    assert_eq!(rename("other", "full", Clobber::Never), io::ErrorKind::AlreadyExists);
    assert_eq!(rename("other", "full", Clobber::Replace), io::ErrorKind::DirectoryNotEmpty);
    assert_eq!(rename("file", "full", Clobber::Replace), io::ErrorKind::IsADirectory);
    let created = |name: &str| disk.create(OUT, Path::new(name), b"", 0o644).unwrap_err().kind();
    assert_eq!(created("file"), io::ErrorKind::AlreadyExists);
    assert_eq!(created("gone/a"), io::ErrorKind::NotFound);
    assert_eq!(created("file/a"), io::ErrorKind::NotADirectory);
    assert_eq!(created("../a"), io::ErrorKind::InvalidInput);
    let link = disk.read(OUT, Path::new("link"), 1).unwrap_err();
    assert_eq!(link.raw_os_error(), Some(libc::ELOOP));
    assert_eq!(disk.read(OUT, Path::new("gone/a"), 1).unwrap(), None);
    disk.remove(OUT, Path::new("gone")).unwrap();
}

#[test]
fn a_rename_moves_ctime_and_nothing_else() {
    let disk = MemoryDisk::new();
    disk.create(Place::Handoff, Path::new("a"), b"x", 0o644).unwrap();
    let before = disk.look(Place::Handoff, Path::new("a")).unwrap().unwrap();
    disk.rename((Place::Handoff, Path::new("a")), (Place::Private, Path::new("b")), Clobber::Never).unwrap();
    let after = disk.look(Place::Private, Path::new("b")).unwrap().unwrap();
    assert!(before.identity.same_but_ctime(&after.identity));
    assert_ne!(before.identity, after.identity);
    assert_eq!(disk.look(Place::Handoff, Path::new(".conductor/b")).unwrap(), Some(after));
}

#[test]
fn a_read_stops_at_its_limit_and_a_mode_is_kept() {
    let disk = MemoryDisk::new();
    put(&disk, "a", b"content");
    assert_eq!(disk.read(OUT, Path::new("a"), 4).unwrap().unwrap(), b"cont");
    assert_eq!(disk.mode(OUT, Path::new("a")), Some(0o644));
    assert_eq!(listed(&disk, Place::Handoff), [".conductor", "failed", "processed", "status"]);
}
