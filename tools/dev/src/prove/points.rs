//! Points in the code at which a process is made to fail ([`failpoints`]): which, how and at which hit is drawn; a file makes it happen, and
//! the process that takes the file leaves the evidence. What becomes of the shop is not looked at here.

pub(super) mod matrix;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use failpoints::{POINTS, Point, Reached};
use serde::{Serialize, Serializer};

use super::random::Random;
use crate::{services::SERVICES, stack::Options, workspace};

/// Mails that one process of notifications has in hand at most (its setting MAIL_CONCURRENCY).
const MAILS_IN_HAND: u64 = 4;
/// The stream of random numbers of the matrix.
const MATRIX: u64 = 2 << 40;

/// What the process does that reaches the point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Mode {
    /// It ends at once.
    Abort,
    /// It gets an error there, as if what is there had failed.
    Error,
    /// It panics.
    Panic,
    /// It stands still for longer than its leases, then goes on.
    Hang,
}

impl Mode {
    const ALL: [Self; 4] = [Self::Abort, Self::Error, Self::Panic, Self::Hang];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Abort => "abort",
            Self::Error => "error",
            Self::Panic => "panic",
            Self::Hang => "hang",
        }
    }
}

/// A failure at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Case {
    #[serde(serialize_with = "name_of")]
    pub(super) point: &'static Point,
    pub(super) mode: Mode,
    /// Which of the times that a process comes there, from 1.
    pub(super) at_hit: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls")]
fn name_of<S: Serializer>(point: &&Point, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(point.name)
}

/// Every mode of every point, in the order in which they come to each service: one mode of all its points after the other.
pub(super) fn matrix(seed: u64) -> Vec<Case> {
    let mut random = Random::new(seed, MATRIX);
    let mut cases = Vec::new();
    for service in SERVICES {
        let mut modes = Mode::ALL;
        random.shuffle(&mut modes);
        for mode in modes {
            let points = POINTS.iter().filter(|point| point.service == service.name);
            cases.extend(points.map(|point| case(&mut random, point, mode)));
        }
    }
    cases
}

/// Any failure at any point that is reached soon.
pub(super) fn any(random: &mut Random) -> Option<Case> {
    let points: Vec<&'static Point> = POINTS.iter().filter(|point| point.reached == Reached::Always).collect();
    let place = usize::try_from(random.below(points.len() as u64)).ok()?;
    let (mode, at_hit) = (random.of(Mode::ALL), 1 + random.below(2));
    points.get(place).map(|point| Case { point, mode, at_hit })
}

fn case(random: &mut Random, point: &'static Point, mode: Mode) -> Case {
    let third = 1 + random.below(4);
    let drawn = random.of([1, 2, third]);
    // What takes something to be reached is not reached often.
    Case { point, mode, at_hit: if point.reached == Reached::Always { drawn } else { 1 } }
}

impl Case {
    /// What the point finds in its file.
    fn file(&self) -> String {
        let Self { point, mode, at_hit } = self;
        match mode {
            Mode::Hang => format!("{} {at_hit} {}", mode.name(), point.outlasts_s),
            _ => format!("{} {at_hit}", mode.name()),
        }
    }

    /// How many mails may arrive once more, because the process that had sent them did not come to write it down.
    pub(super) fn mails_in_hand(&self) -> u64 {
        let (part, _) = self.point.name.split_once('.').unwrap_or_default();
        match (self.point.service, self.mode, part) {
            // A panic can end the process, as an abort does.
            ("notifications", Mode::Abort | Mode::Panic, _) => MAILS_IN_HAND,
            ("notifications", _, "worker" | "notifications" | "outbox") => 1,
            _ => 0,
        }
    }

    /// Has the next process of the service that comes to the point fail there.
    pub(super) fn arm(&self, folders: &Folders) -> Result<()> {
        folders.arm(self.point.service, self.point.name, &self.file())
    }
}

/// Where the processes of a stack look for what they are to do: a folder for each service.
#[derive(Clone, Debug)]
pub(super) struct Folders(PathBuf);

impl Folders {
    pub(super) fn of_stack(name: &str) -> Result<Self> {
        Ok(Self(workspace::stack_folder(&workspace::root()?, name).join("failpoints")))
    }

    /// A stack whose processes can be made to fail.
    pub(super) fn prepare(&self, options: Options) -> Options {
        let mut options = options.tested();
        for service in SERVICES {
            options = options.setting(service.name, "FAILPOINTS", self.of(service.name).display());
        }
        options
    }

    fn of(&self, service: &str) -> PathBuf {
        self.0.join(service)
    }

    fn arm(&self, service: &str, point: &str, text: &str) -> Result<()> {
        let folder = self.of(service);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        // A point may look at any moment: the file is whole when it is there.
        let (unready, ready) = (folder.join(format!("{point}.unready")), folder.join(point));
        fs::write(&unready, text).with_context(|| format!("cannot write {}", unready.display()))?;
        fs::rename(&unready, &ready).with_context(|| format!("cannot write {}", ready.display()))
    }

    /// The process that has taken a point's file since it was armed, and what it left.
    pub(super) fn taken(&self, service: &str, point: &str) -> Option<(i32, PathBuf)> {
        fs::read_dir(self.of(service)).ok()?.filter_map(Result::ok).find_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let pid = name.strip_prefix(point)?.strip_prefix('.')?.strip_suffix(".hit")?.parse().ok()?;
            Some((pid, entry.path()))
        })
    }

    fn is_armed(&self, service: &str, point: &str) -> bool {
        self.of(service).join(point).exists()
    }

    /// Takes back what nobody has taken. `false`: somebody has.
    pub(super) fn disarm(&self, service: &str, point: &str) -> bool {
        fs::remove_file(self.of(service).join(point)).is_ok()
    }
}

/// Keeps what a process has left, out of the way of the next time, in the folder of the run.
pub(super) fn keep(left: &Path, run: &Path, id: u64) -> Result<()> {
    let folder = run.join("failpoints");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let name = left.file_name().unwrap_or_default().to_string_lossy();
    fs::rename(left, folder.join(format!("{id}.{name}"))).with_context(|| format!("cannot move {}", left.display()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_matrix_has_every_mode_of_every_point_once() {
        let cases = matrix(3);
        let distinct: BTreeSet<_> = cases.iter().map(|case| (case.point.name, case.mode)).collect();
        assert_eq!(distinct.len(), POINTS.len() * Mode::ALL.len());
        assert_eq!(cases.len(), distinct.len());
        assert!(cases.len() >= 100);
    }

    #[test]
    fn a_seed_is_the_same_matrix_each_time_and_another_seed_another_one() {
        assert_eq!(matrix(5), matrix(5));
        assert_ne!(matrix(5), matrix(6));
    }

    #[test]
    fn first_second_and_later_hits_come() {
        let hits: BTreeSet<_> = matrix(1).iter().map(|case| case.at_hit).collect();
        assert!(hits.len() > 2 && hits.first() == Some(&1), "{hits:?}");
    }

    #[test]
    fn every_point_belongs_to_a_service_that_there_is() {
        assert!(POINTS.iter().all(|point| SERVICES.iter().any(|service| service.name == point.service)));
    }

    #[test]
    fn what_a_process_takes_is_found_by_the_name_of_the_point() {
        let folders = Folders(std::env::temp_dir().join(format!("points-{}", std::process::id())));
        let case = Case { point: &POINTS[0], mode: Mode::Hang, at_hit: 2 };
        let Point { service, name, outlasts_s, .. } = *case.point;
        case.arm(&folders).unwrap();
        assert!(folders.is_armed(service, name) && folders.taken(service, name).is_none());
        let file = folders.of(service).join(name);
        assert_eq!(fs::read_to_string(&file).unwrap(), format!("hang 2 {outlasts_s}"));
        fs::rename(&file, file.with_file_name(format!("{name}.17.hit"))).unwrap();
        assert_eq!(folders.taken(service, name).map(|(pid, _)| pid), Some(17));
        assert!(!folders.disarm(service, name));
        fs::remove_dir_all(&folders.0).unwrap();
    }
}
