//! `set` interrupted at every moment: a reader always finds the old state whole, or the new one whole.
//!
//! Two models of a crash. A process that is killed has done some of its writes, the last one in part. A machine that
//! loses power has kept any subset of the sectors written since the last `sync`.

mod common;

use std::io;

use common::{bundle, elf, gguf, settings, small};
use tealight_bundle::tail::rewrite::{Disk, RewriteError, passing_place, rewrite};
use tealight_bundle::tail::write::{Settings, TailPlan};
use tealight_bundle::tail::{self, Role};
use tealight_bundle::{Tail, verify};

#[derive(Debug, Clone)]
enum Op {
    Write(usize, Vec<u8>),
    SetLen(usize),
    Sync,
}

/// Records the operations; can simulate a full disk.
#[derive(Default)]
struct Journal {
    ops: Vec<Op>,
    full_at: Option<u64>,
}

impl Disk for Journal {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let offset_usize = usize::try_from(offset).unwrap();
        let room = self
            .full_at
            .map_or(bytes.len(), |full| usize::try_from(full.saturating_sub(offset)).unwrap());
        let kept = bytes.len().min(room);
        self.ops.push(Op::Write(offset_usize, bytes[..kept].to_vec()));
        if kept == bytes.len() { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
    }

    fn set_len(&mut self, bytes: u64) -> io::Result<()> {
        self.ops.push(Op::SetLen(usize::try_from(bytes).unwrap()));
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.ops.push(Op::Sync);
        Ok(())
    }
}

fn apply(file: &mut Vec<u8>, op: &Op) {
    match op {
        Op::Write(offset, bytes) => {
            let end = offset + bytes.len();
            file.resize(file.len().max(end), 0);
            file[*offset..end].copy_from_slice(bytes);
        }
        Op::SetLen(len) => file.resize(*len, 0),
        Op::Sync => {}
    }
}

const WEIGHTS: &str = "weights/w.gguf";

fn made(settings: &Settings) -> Vec<u8> {
    bundle(&elf(100), &[(WEIGHTS, &gguf(3))], settings)
}

fn open(bytes: &[u8]) -> Tail {
    tail::read(bytes).unwrap_or_else(|error| panic!("{error}")).expect("a bundle")
}

/// The operations that `set` performs on this file.
fn steps(file: &[u8], new: &Settings, full_at: Option<u64>) -> (Vec<Op>, Result<(), RewriteError>) {
    let old = open(file);
    let (plan, fixed) = TailPlan::of(&old).unwrap();
    let valid_end = old.small_part().end;
    let new_bytes = plan.tail(&fixed, new, plan.tail_start()).unwrap();
    let place = passing_place(plan.tail_start(), new_bytes.len() as u64, valid_end).unwrap();
    let passing = plan.tail(&fixed, new, place).unwrap();
    let mut journal = Journal { full_at, ..Journal::default() };
    let result = rewrite(&mut journal, plan.tail_start(), valid_end, &passing, &new_bytes);
    (journal.ops, result)
}

/// The index of the state that the file holds, whole; panics if it is none of these.
fn state(file: &[u8], states: &[&Settings]) -> usize {
    let tail = open(file);
    assert_eq!(file[tail.entry(WEIGHTS).unwrap().range.clone()], gguf(3), "the weights changed");
    let holds = |settings: &&Settings| {
        tail.manifest().name == settings.name
            && tail.entries().len() == settings.small.len() + 3
            && settings.small.iter().all(|small| {
                tail.entry(&small.name).is_some_and(|entry| file[entry.range.clone()] == small.data)
            })
    };
    states.iter().position(holds).expect("a mix of states")
}

fn shorter() -> Settings {
    Settings { small: vec![small("web/index.html", Role::Web, b"x")], ..Settings::default() }
}

fn longer() -> Settings {
    let mut longer = settings("a prompt of another length");
    longer.small.push(small("web/long.bin", Role::Web, &common::pattern(9000)));
    longer
}

/// Settings with a page that contains what looks like the end of a bundle.
fn sly() -> Settings {
    let mut sly = settings("x");
    let other = made(&shorter());
    sly.small.push(small("web/sly.bin", Role::Web, &other[other.len() - 4000..]));
    sly
}

fn pairs() -> Vec<(Settings, Settings)> {
    let all = [settings("be brief"), settings("be kind!"), shorter(), longer(), sly()];
    let pairs = all.iter().flat_map(|old| all.iter().map(move |new| (old.clone(), new.clone())));
    pairs.filter(|(old, new)| old != new).collect()
}

#[test]
fn killed_after_every_byte_of_every_write() {
    for (old, new) in pairs() {
        let before = made(&old);
        let (ops, result) = steps(&before, &new, None);
        result.unwrap();
        let mut file = before.clone();
        let mut seen = 0;
        for op in &ops {
            if let Op::Write(offset, bytes) = op {
                // Long writes are cut at every byte near their end, and at every 97th before.
                for cut in (0..bytes.len())
                    .filter(|cut| bytes.len() < 4000 || cut % 97 == 0 || cut + 200 > bytes.len())
                {
                    let mut killed = file.clone();
                    apply(&mut killed, &Op::Write(*offset, bytes[..cut].to_vec()));
                    let now = state(&killed, &[&old, &new]);
                    assert!(now >= seen, "the new state was there, then the old one again");
                }
            }
            apply(&mut file, op);
            let now = state(&file, &[&old, &new]);
            assert!(now >= seen);
            seen = now;
        }
        assert_eq!(file, made(&new), "not what a fresh bundle would be");
        assert_eq!(open(&file).leftover_bytes(), 0);
        verify(&file, &open(&file), &mut |_, _| {}).unwrap();
    }
}

/// A small random number generator (xorshift) with a fixed seed, so that a failure can be repeated.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides as u64).unwrap()
    }
}

/// The file after a power cut: random sectors of the operations since the last sync, and the length before or after
/// them.
fn power_cut(synced: &[u8], since: &[Op], dice: &mut Dice) -> Vec<u8> {
    const SECTOR: usize = 512;
    let mut after = synced.to_vec();
    for op in since {
        apply(&mut after, op);
    }
    let len = [synced.len(), after.len()][dice.roll(2)];
    let mut file = synced.to_vec();
    file.resize(len, 0);
    for sector in (0..len).step_by(SECTOR) {
        let end = (sector + SECTOR).min(len).min(after.len());
        if sector < end && dice.roll(2) == 0 {
            file[sector..end].copy_from_slice(&after[sector..end]);
        }
    }
    file
}

#[test]
fn power_lost_with_any_sectors_written() {
    let mut dice = Dice(0x7ea1_197e);
    for (old, new) in pairs() {
        let before = made(&old);
        let (ops, _) = steps(&before, &new, None);
        let mut synced = before.clone();
        let mut since: Vec<Op> = Vec::new();
        for op in &ops {
            since.push(op.clone());
            for _ in 0..25 {
                state(&power_cut(&synced, &since, &mut dice), &[&old, &new]);
            }
            if matches!(op, Op::Sync) {
                for op in &since {
                    apply(&mut synced, op);
                }
                since.clear();
            }
        }
    }
}

#[test]
fn killed_again_and_again_then_finished() {
    let mut dice = Dice(42);
    let all = [settings("one"), longer(), shorter(), settings("three"), sly()];
    for _ in 0..60 {
        let mut file = made(&all[0]);
        let mut current = 0;
        for _ in 0..4 {
            let next = dice.roll(all.len());
            let (ops, _) = steps(&file, &all[next], None);
            let last = dice.roll(ops.len());
            for op in &ops[..last] {
                apply(&mut file, op);
            }
            if let Op::Write(offset, bytes) = &ops[last] {
                apply(&mut file, &Op::Write(*offset, bytes[..dice.roll(bytes.len())].to_vec()));
            }
            current = [current, next][state(&file, &[&all[current], &all[next]])];
            verify(&file, &open(&file), &mut |_, _| {}).unwrap();
        }
        let last = dice.roll(all.len());
        let (ops, _) = steps(&file, &all[last], None);
        for op in &ops {
            apply(&mut file, op);
        }
        assert_eq!(file, made(&all[last]));
    }
}

#[test]
fn a_full_disk_at_any_moment_leaves_a_valid_state() {
    let (old, new) = (settings("be brief"), longer());
    let before = made(&old);
    let end = before.len() + 40_000;
    for full_at in (before.len()..end).step_by(501) {
        let (ops, result) = steps(&before, &new, Some(full_at as u64));
        let mut file = before.clone();
        for op in &ops {
            apply(&mut file, op);
        }
        let now = state(&file, &[&old, &new]);
        match result {
            Err(RewriteError::Unchanged(_)) => {
                assert_eq!(now, 0);
                assert_eq!(file, before, "nothing was to be changed");
            }
            Ok(()) | Err(RewriteError::Untidy(_)) => assert_eq!(now, 1),
            Err(RewriteError::TooLong) => panic!("too long"),
        }
    }
}

#[test]
fn leftovers_of_an_interruption_are_reported_then_removed() {
    let (old, new) = (settings("be brief"), longer());
    let mut file = made(&old);
    let (ops, _) = steps(&file, &new, None);
    // Everything but the truncation at the end.
    let last = ops.iter().rposition(|op| matches!(op, Op::SetLen(_))).unwrap();
    for op in &ops[..last] {
        apply(&mut file, op);
    }
    assert_eq!(state(&file, &[&old, &new]), 1);
    assert!(open(&file).leftover_bytes() > 0);
    verify(&file, &open(&file), &mut |_, _| {}).unwrap();
    let (ops, _) = steps(&file, &new, None);
    for op in &ops {
        apply(&mut file, op);
    }
    assert_eq!(file, made(&new));
}
