//! The file's place: rights, lock, corrupt and deleted files.

use std::sync::Arc;

use tempfile::TempDir;

use super::*;
use crate::quota::Moment;
use crate::state::store::{Batch, Change, Kept, RowId, Written};

const NOW: Moment = Moment(1_750_000_000_000);

fn folder() -> (TempDir, PathBuf) {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("a/b/state.db");
    (directory, path)
}

fn batch(number: i64, json: &str) -> Batch {
    let id = RowId { provider: Arc::from("p"), key: Arc::from("k") };
    let kept = Some(Kept { json: Arc::from(json), updated: NOW });
    Batch { journal: 1, number, whole: true, at: NOW, ledger: vec![Change { id, kept }], usage: vec![] }
}

fn text(store: &mut dyn Store) -> Option<String> {
    store.load(NOW).unwrap().ledger.first().map(|row| row.json.clone())
}

fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(path.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[cfg(unix)]
#[test]
fn the_directory_and_every_file_in_it_are_the_owner_s_alone() {
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let (_directory, path) = folder();
    let shelf = FileShelf::new(path.clone());
    let mut store = shelf.open().unwrap();
    store.write(&batch(1, "1")).unwrap();
    let folder = path.parent().unwrap();
    assert_eq!((mode(folder), mode(folder.parent().unwrap())), (0o700, 0o700));
    assert_eq!(names(&path), ["state.db", "state.db-shm", "state.db-wal", "state.db.lock"]);
    for name in names(&path) {
        assert_eq!(mode(&folder.join(&name)), 0o600, "{name}");
    }
    drop(store);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    drop(shelf.open().unwrap());
    assert_eq!(mode(&path), 0o600, "and it becomes so again");
}

#[test]
fn what_cannot_be_written_to_is_not_left_unread() {
    let (directory, path) = folder();
    let shelf = FileShelf::new(path.clone());
    let mut store = shelf.open().ok();
    store.as_mut().unwrap().write(&batch(1, "1")).unwrap();
    // As after a kill, and as after an orderly end; a name that is no plain URI.
    for endings in [&["", "-wal", "-shm"][..], &["", "-wal"], &[""]] {
        if endings.len() == 1 {
            drop(store.take());
        }
        let copy = directory.path().join(format!("{}#%?/state ü.db", endings.len()));
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        for ending in endings {
            let with = |path: &Path| format!("{}{ending}", path.display());
            fs::copy(with(&path), with(&copy)).unwrap();
        }
        let (before, bytes) = (names(&copy), fs::read(&copy).unwrap());
        let saved = FileShelf::new(copy.clone()).read(NOW).unwrap();
        assert_eq!(saved.ledger.first().map(|row| row.json.as_str()), Some("1"), "{endings:?}");
        assert_eq!(fs::read(&copy).unwrap(), bytes);
        assert!(!names(&copy).iter().any(|name| name.ends_with(".lock")), "{before:?}");
    }
    let (_directory, nowhere) = folder();
    assert!(FileShelf::new(nowhere.clone()).read(NOW).is_none());
    assert!(!nowhere.exists() && !nowhere.parent().unwrap().exists(), "nothing is made");
}

#[test]
fn a_corrupt_file_is_moved_aside_and_a_fresh_one_is_begun() {
    let (_directory, path) = folder();
    let garbage = "garbage ".repeat(1000);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    for ending in ["", "-wal", "-shm"] {
        fs::write(format!("{}{ending}", path.display()), &garbage).unwrap();
    }
    let mut store = FileShelf::new(path.clone()).open().unwrap();
    assert_eq!(text(store.as_mut()), None);
    assert_eq!(store.write(&batch(1, "1")).unwrap(), Written::Done);
    drop(store);
    let aside: Vec<String> = names(&path).into_iter().filter(|name| name.contains("corrupt")).collect();
    assert!(aside[0].starts_with("state.db.corrupt-2"), "{aside:?}");
    assert_eq!(
        fs::read_to_string(path.with_file_name(&aside[0])).unwrap(),
        garbage,
        "nothing is thrown away"
    );
}

#[test]
fn what_sqlite_left_beside_a_corrupt_file_goes_with_it() {
    let (_directory, path) = folder();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    for ending in ["", "-wal", "-shm"] {
        fs::write(format!("{}{ending}", path.display()), "garbage").unwrap();
    }
    FileShelf::new(path.clone()).put_aside(&StoreError::new(Fault::Corrupt, "malformed")).unwrap();
    let aside = names(&path);
    assert!(aside.iter().all(|name| name.starts_with("state.db.corrupt-2")), "{aside:?}");
    assert!(aside.len() == 3 && aside[1].ends_with("-shm") && aside[2].ends_with("-wal"), "{aside:?}");
}

#[test]
fn a_disk_that_corrupts_everything_is_not_filled_with_corrupt_files() {
    let (_directory, path) = folder();
    let shelf = FileShelf::new(path.clone());
    drop(shelf.open().unwrap());
    for round in 0..5 {
        fs::write(&path, "garbage ".repeat(1000)).unwrap();
        let opened = shelf.open();
        assert_eq!(opened.is_ok(), round < 3, "round {round}");
        if let Err(error) = opened {
            assert!(error.text.contains("check the disk"), "{error}");
        }
    }
    let aside =
        names(&path).into_iter().filter(|name| name.contains("corrupt-") && !name.ends_with("m")).count();
    assert_eq!(aside, 3);
}

#[test]
fn a_second_one_on_the_same_file_is_told_who_has_it_until_that_one_is_gone() {
    let (_directory, path) = folder();
    let first = FileShelf::new(path.clone());
    let store = first.open().unwrap();
    let second = FileShelf::new(path.clone());
    let error = second.open().err().unwrap();
    assert_eq!(error.fault, Fault::InUse);
    assert!(error.text.contains(&format!("(process {})", std::process::id())), "{error}");
    drop(store);
    assert!(second.open().is_err(), "it is held for as long as the first one lives, open or not");
    assert!(first.open().is_ok(), "and the first may open it again");
    drop(first);
    assert!(second.open().is_ok());
}

#[cfg(unix)]
#[test]
fn a_file_that_is_deleted_or_replaced_is_noticed_and_the_next_one_is_whole() {
    let (_directory, path) = folder();
    let shelf = FileShelf::new(path.clone());
    let mut store = shelf.open().unwrap();
    store.write(&batch(1, "1")).unwrap();
    assert!(store.is_there());
    fs::remove_file(&path).unwrap();
    assert!(!store.is_there());
    // The worst order: the old one is closed only after the fresh one was written to.
    let mut fresh = shelf.open().unwrap();
    fresh.write(&batch(2, "2")).unwrap();
    drop(store);
    fresh.write(&batch(3, "3")).unwrap();
    assert!(fresh.is_there());
    let copy = path.with_file_name("copy.db");
    for ending in ["", "-wal"] {
        fs::copy(format!("{}{ending}", path.display()), format!("{}{ending}", copy.display())).unwrap();
    }
    let mut as_after_a_kill = FileShelf::new(copy).open().unwrap();
    assert_eq!(text(as_after_a_kill.as_mut()).as_deref(), Some("3"));
}

#[cfg(unix)]
#[test]
fn whoever_deletes_the_lock_lets_another_one_in_and_the_first_one_out() {
    let (_directory, path) = folder();
    let first = FileShelf::new(path.clone());
    drop(first.open().unwrap());
    fs::remove_file(path.with_file_name("state.db.lock")).unwrap();
    let second = FileShelf::new(path);
    drop(second.open().unwrap());
    assert_eq!(first.open().err().unwrap().fault, Fault::InUse);
}

#[test]
fn a_place_where_no_directory_can_be_made_is_named() {
    let (directory, _) = folder();
    fs::write(directory.path().join("file"), "").unwrap();
    let error = FileShelf::new(directory.path().join("file/sub/state.db")).open().err().unwrap();
    assert!(
        error.text.contains("cannot make the directory") && error.text.contains("[state] path"),
        "{error}"
    );
    let error = FileShelf::new(directory.path().to_owned()).open().err().unwrap();
    assert!(error.text.contains("cannot open"), "{error}");
}
