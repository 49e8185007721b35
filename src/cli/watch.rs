//! `serve --watch`: looks whether a file of the configuration changed. By looking at what the file system says of each,
//! once a second: editors replace files by renaming, `conf.d` gets new ones, secrets are links into directories that are
//! swapped, and containers mount file systems that tell nobody of changes. To all that a look is the same.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use actix_rt::task::spawn_blocking;
use tracing::{info, warn};

use crate::config::{Sources, named_files};
use crate::reload::{Cause, Refusal, Reloads, What};

/// How often it looks. A change counts when the next look finds nothing new: whoever writes several files, or one in
/// pieces, is not read halfway.
const LOOK: Duration = Duration::from_secs(1);

/// What is watched, and how it was when it was last read.
pub struct Watch {
    sources: Sources,
    /// Files beside those of the configuration: secrets, certificates.
    named: Vec<PathBuf>,
    read: Stamps,
    /// What the last look saw, if that was something else.
    seen: Option<Stamps>,
}

/// What the file system says of each file; `None`: it is not there.
type Stamps = BTreeMap<PathBuf, Option<Stamp>>;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    length: u64,
    modified: Option<SystemTime>,
    identity: (u64, u64, i64, i64),
}

// === impl Watch ===

impl Watch {
    /// Watches the files of these sources. To be made before they are read, so that no change falls between.
    pub fn new(sources: &Sources) -> Watch {
        let mut watch =
            Watch { sources: sources.clone(), named: Vec::new(), read: Stamps::new(), seen: None };
        watch.read = watch.stamps();
        watch
    }

    /// These files were read, too, some time after `since`. One that changed later than that may have been read before it
    /// changed: it counts as not read.
    pub fn reads(&mut self, files: Vec<PathBuf>, since: SystemTime) {
        for file in &files {
            if !self.read.contains_key(file) {
                self.read.insert(file.clone(), stamp(file).filter(|stamp| stamp.is_older(since)));
            }
        }
        self.named = files;
        let wanted = self.files();
        self.read.retain(|file, _| wanted.contains(file));
    }

    /// These files, too, were read in vain: what is wrong may be mended in one of them.
    pub fn would_read(&mut self, files: Vec<PathBuf>, since: SystemTime) {
        let known: Vec<PathBuf> = self.named.iter().filter(|file| !files.contains(file)).cloned().collect();
        self.reads(files.into_iter().chain(known).collect(), since);
    }

    /// What changed was not read after all.
    pub fn has_not_read(&mut self) {
        self.read = Stamps::new();
    }

    /// Whether something changed, and has been quiet since the last look. Counts as read then.
    pub fn look(&mut self) -> bool {
        let now = self.stamps();
        if now == self.read {
            self.seen = None;
            return false;
        }
        if self.seen.as_ref() != Some(&now) {
            self.seen = Some(now);
            return false;
        }
        (self.read, self.seen) = (now, None);
        true
    }

    fn files(&self) -> Vec<PathBuf> {
        // A directory that cannot be listed has no files; that it had some before is the change.
        let mut files = named_files(&self.sources).unwrap_or_default();
        files.extend(self.named.iter().cloned());
        files
    }

    fn stamps(&self) -> Stamps {
        self.files().into_iter().map(|file| (file.clone(), stamp(&file))).collect()
    }
}

// === impl Stamp ===

impl Stamp {
    /// Whether neither its contents nor its entry changed at that moment or later.
    fn is_older(&self, than: SystemTime) -> bool {
        let since = than.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let (_, _, seconds, nanoseconds) = self.identity;
        let entry = (u64::try_from(seconds).unwrap_or(0), u32::try_from(nanoseconds).unwrap_or(0));
        self.modified.is_some_and(|modified| modified < than)
            && entry < (since.as_secs(), since.subsec_nanos())
    }
}

fn stamp(file: &Path) -> Option<Stamp> {
    // A link that leads nowhere is there, and can be taken away.
    let about = std::fs::metadata(file).or_else(|_| std::fs::symlink_metadata(file)).ok()?;
    Some(Stamp { length: about.len(), modified: about.modified().ok(), identity: identity(&about) })
}

/// Device, number and last change of its entry: another file with the same name is told apart, however fast it came.
#[cfg(unix)]
fn identity(about: &Metadata) -> (u64, u64, i64, i64) {
    use std::os::unix::fs::MetadataExt;
    (about.dev(), about.ino(), about.ctime(), about.ctime_nsec())
}

#[cfg(not(unix))]
fn identity(_about: &Metadata) -> (u64, u64, i64, i64) {
    (0, 0, 0, 0)
}

/// Asks for a reload whenever something changed; ends never.
pub async fn reload_on_change(mut watch: Watch, reloads: Reloads) {
    info!(files = watch.read.len(), "watching the files of the configuration");
    loop {
        tokio::time::sleep(LOOK).await;
        // A network's file system may hang.
        let looked = spawn_blocking(move || {
            let due = watch.look();
            (watch, due)
        });
        let Ok((back, due)) = looked.await else {
            warn!("the files of the configuration are watched no more: no thread");
            return;
        };
        watch = back;
        let since = SystemTime::now();
        if due {
            match reloads.ask(What::Reload(Cause::Watch)).await {
                Ok(outcome) => watch.reads(outcome.files, since),
                Err(Refusal::Bad { files, .. }) => watch.would_read(files, since),
                Err(Refusal::NotNow(_)) => watch.has_not_read(),
                Err(Refusal::Impossible(_)) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scene {
        folder: tempfile::TempDir,
        watch: Watch,
    }

    /// A platform's directory with `config.toml` and one part, which were read.
    fn scene() -> Scene {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("conf.d")).unwrap();
        std::fs::write(folder.path().join("config.toml"), "a = 1").unwrap();
        std::fs::write(folder.path().join("conf.d/1.toml"), "b = 1").unwrap();
        let sources = Sources { config_dir: Some(folder.path().to_owned()), ..Sources::default() };
        Scene { watch: Watch::new(&sources), folder }
    }

    impl Scene {
        fn at(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        #[track_caller]
        fn told_once(&mut self, what: &str) {
            assert!(!self.watch.look(), "{what}: not at the first look");
            assert!(self.watch.look(), "{what}: at the second");
            assert!(!self.watch.look() && !self.watch.look(), "{what}: once");
        }
    }

    #[test]
    fn every_way_to_change_a_file_is_noticed_once() {
        let mut scene = scene();
        assert!(!scene.watch.look() && !scene.watch.look(), "nothing changed");
        std::fs::write(scene.at("config.toml"), "a = 23").unwrap();
        scene.told_once("written over");
        std::fs::write(scene.at("new"), "a = 42").unwrap();
        std::fs::rename(scene.at("new"), scene.at("config.toml")).unwrap();
        scene.told_once("replaced by another of the same length");
        std::fs::write(scene.at("conf.d/2.toml"), "c = 1").unwrap();
        scene.told_once("a new part");
        std::fs::remove_file(scene.at("conf.d/1.toml")).unwrap();
        scene.told_once("a part is gone");
        std::fs::write(scene.at("conf.d/note.txt"), "x").unwrap();
        assert!(!scene.watch.look() && !scene.watch.look(), "no part of the configuration");
    }

    #[test]
    fn a_secret_file_is_watched_once_it_was_read_and_no_longer_than_it_is() {
        let mut scene = scene();
        let secret = scene.at("secret");
        std::fs::write(&secret, "one").unwrap();
        assert!(!scene.watch.look() && !scene.watch.look());
        scene.watch.reads(vec![secret.clone()], late());
        assert!(!scene.watch.look() && !scene.watch.look(), "as it was read");
        std::fs::write(&secret, "another").unwrap();
        scene.told_once("the secret");
        scene.watch.reads(Vec::new(), late());
        std::fs::write(&secret, "a third").unwrap();
        assert!(!scene.watch.look() && !scene.watch.look(), "nobody reads it any more");
    }

    /// A moment after all that is written here.
    fn late() -> SystemTime {
        SystemTime::now() + Duration::from_secs(60)
    }

    #[test]
    fn a_secret_file_that_changed_while_it_was_read_is_read_again() {
        let mut scene = scene();
        let secret = scene.at("secret");
        let since = SystemTime::now() - Duration::from_secs(60);
        std::fs::write(&secret, "one").unwrap();
        scene.watch.reads(vec![secret], since);
        scene.told_once("it may have been read before");
    }

    #[test]
    fn what_is_still_being_written_is_not_read_halfway() {
        let mut scene = scene();
        for length in 1..5 {
            std::fs::write(scene.at("config.toml"), "x".repeat(length)).unwrap();
            assert!(!scene.watch.look(), "it changed again");
        }
        assert!(scene.watch.look(), "it has been quiet");
    }

    #[cfg(unix)]
    #[test]
    fn links_that_lead_elsewhere_and_files_that_come_and_go_are_changes() {
        let mut scene = scene();
        for (version, text) in [("one", "a = 1"), ("two", "a = 2")] {
            std::fs::create_dir(scene.at(version)).unwrap();
            std::fs::write(scene.at(version).join("3.toml"), text).unwrap();
        }
        // As a volume is mounted into a container: a link to a directory that is swapped.
        let link = |to: &str, scene: &Scene| {
            std::os::unix::fs::symlink(to, scene.at("next")).unwrap();
            std::fs::rename(scene.at("next"), scene.at("data")).unwrap();
        };
        link("one", &scene);
        std::os::unix::fs::symlink(scene.at("data/3.toml"), scene.at("conf.d/3.toml")).unwrap();
        scene.told_once("a link to a new part");
        link("two", &scene);
        scene.told_once("the directory behind it is another one");
        std::fs::remove_file(scene.at("data")).unwrap();
        scene.told_once("it leads nowhere");
        link("one", &scene);
        scene.told_once("it leads somewhere again");
        std::fs::remove_file(scene.at("data")).unwrap();
        scene.told_once("it leads nowhere again");
        scene.watch.would_read(vec![scene.at("conf.d/3.toml")], late());
        std::fs::remove_file(scene.at("conf.d/3.toml")).unwrap();
        scene.told_once("the link is gone, and with it what was wrong");
        std::fs::remove_file(scene.at("config.toml")).unwrap();
        scene.told_once("the main file is gone");
        std::fs::write(scene.at("config.toml"), "a = 1").unwrap();
        scene.told_once("it is there again");
    }

    #[test]
    fn a_file_that_was_missed_is_watched_beside_those_that_are_in_force() {
        let mut scene = scene();
        let (secret, missed) = (scene.at("secret"), scene.at("missed"));
        std::fs::write(&secret, "one").unwrap();
        scene.watch.reads(vec![secret.clone()], late());
        scene.watch.would_read(vec![missed.clone()], late());
        assert!(!scene.watch.look() && !scene.watch.look(), "it is still not there");
        std::fs::write(&missed, "here").unwrap();
        scene.told_once("what was missed");
        std::fs::write(&secret, "another").unwrap();
        scene.told_once("what is in force");
    }

    #[test]
    fn what_could_not_be_read_at_that_moment_is_a_change_again() {
        let mut scene = scene();
        std::fs::write(scene.at("config.toml"), "a = 23").unwrap();
        scene.told_once("written over");
        scene.watch.has_not_read();
        scene.told_once("it was not read");
    }
}
