//! Worlds drawn from seeds (`iked::sim`): 500 fixed ones and a fresh one in every test run, as many
//! as wanted by `make sim`. A world that fails says how to see it fail again, line by line.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(
    clippy::disallowed_methods,
    reason = "one reading of the clock starts all worlds, another draws the fresh seed"
)]
#![allow(
    clippy::print_stdout,
    reason = "failures and replays are read by people"
)]

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use iked::sim::World;

/// Lives the world of a seed; says what went wrong.
fn live(seed: u64, start: Instant) -> Result<(u64, Duration), String> {
    let lived = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(seed, start);
        let result = world.run();
        (result, world.steps(), world.time())
    }));
    match lived {
        Ok((Ok(()), steps, time)) => Ok((steps, time)),
        Ok((Err(violation), _, time)) => Err(format!("after {time:?}: {violation}")),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.into()));
            Err(format!("panic: {}", text.unwrap_or_default()))
        }
    }
}

/// Lives many worlds on all processors; `tick` is called after each.
fn live_all(seeds: &[u64], tick: &(dyn Fn() + Sync)) -> Vec<String> {
    let next = AtomicU64::new(0);
    let failures = Mutex::new(Vec::new());
    let start = Instant::now();
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(&seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                    if let Err(what) = live(seed, start) {
                        let line = format!("seed {seed} {what}\n    {}", how_to_replay(seed));
                        // At once: a long run may be stopped before its end.
                        println!("{line}");
                        failures.lock().unwrap().push(line);
                    }
                    tick();
                }
            });
        }
    });
    failures.into_inner().unwrap()
}

fn how_to_replay(seed: u64) -> String {
    format!("IKED_SIM_SEED={seed} cargo test --locked --test sim replay -- --nocapture")
}

fn report(failures: &[String]) {
    assert!(
        failures.is_empty(),
        "{} worlds failed\n{}",
        failures.len(),
        failures.join("\n")
    );
}

/// A number from the environment.
fn wish(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no number")),
    )
}

#[test]
fn five_hundred_fixed_worlds_come_right() {
    let seeds: Vec<u64> = (0..500).collect();
    report(&live_all(&seeds, &|| {}));
}

#[test]
fn a_fresh_world_comes_right() {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    let seed = u64::from(since.subsec_nanos()) << 20 | since.as_secs() & 0xf_ffff;
    println!("fresh seed: {}", how_to_replay(seed));
    report(&live_all(&[seed], &|| {}));
}

#[test]
fn hosts_with_certificates_ask_the_outside_and_are_told_well_and_badly() {
    let told = std::sync::Arc::new(Mutex::new(Vec::new()));
    for seed in 0..160 {
        let mut world = World::new(seed, Instant::now());
        let sink = std::sync::Arc::clone(&told);
        world.trace(Box::new(move |line| {
            if let Some((_, answer)) = line.split_once(" outside: ") {
                sink.lock().unwrap().push(answer.to_owned());
            }
        }));
        world.run().unwrap();
    }
    let told = told.lock().unwrap();
    for kind in ["Ocsp", "Crl"] {
        let all = told.iter().filter(|told| told.starts_with(kind));
        let (well, badly): (Vec<_>, Vec<_>) = all.partition(|told| told.ends_with("(Ok(Good))"));
        assert!(well.len() > 50, "{kind}: {}", well.len());
        assert!(badly.len() > 2, "{kind}: {badly:?}");
    }
    assert!(told.iter().any(|told| told.starts_with("Own(Some")));
}

#[test]
fn the_same_seed_makes_the_same_world() {
    let lives = [1, 2].map(|offset| {
        let lines = std::sync::Arc::new(Mutex::new(Vec::new()));
        let mut world = World::new(7, Instant::now() + Duration::from_secs(offset));
        let sink = std::sync::Arc::clone(&lines);
        world.trace(Box::new(move |line| {
            sink.lock().unwrap().push(line.to_owned())
        }));
        drop(world.run());
        drop(world);
        std::sync::Arc::into_inner(lines)
            .unwrap()
            .into_inner()
            .unwrap()
    });
    assert!(lives[0].len() > 100, "nothing happened");
    assert_eq!(lives[0], lives[1]);
}

/// With IKED_SIM_SEED: the world of this seed, told line by line.
#[test]
fn replay() {
    let Some(seed) = wish("IKED_SIM_SEED") else {
        return;
    };
    let mut world = World::new(seed, Instant::now());
    world.trace(Box::new(|line| println!("{line}")));
    if let Err(violation) = world.run() {
        panic!("seed {seed} after {:?}: {violation}", world.time());
    }
    println!("{} steps, {:?}", world.steps(), world.time());
}

/// With IKED_SIM_SEEDS: that many worlds from IKED_SIM_FIRST on (`make sim`).
#[test]
fn as_many_worlds_as_wanted_come_right() {
    let Some(count) = wish("IKED_SIM_SEEDS") else {
        return;
    };
    let first = wish("IKED_SIM_FIRST").unwrap_or(0);
    let seeds: Vec<u64> = (first..first + count).collect();
    let bar = indicatif::ProgressBar::new(count);
    let style = "{wide_bar} {pos}/{len} worlds {per_sec} {eta} left";
    bar.set_style(indicatif::ProgressStyle::with_template(style).unwrap());
    let failures = live_all(&seeds, &|| bar.inc(1));
    bar.finish();
    report(&failures);
}
