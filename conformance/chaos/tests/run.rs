//! Whole runs against a server of a few lines: a right one passes, each kind of wrong one is found out.

#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

mod fake;

use std::time::{Duration, Instant};

use fake::{Bug, Fake};
use throng_chaos::check::{Check, Verdict, check_file};
use throng_chaos::plan::Size;
use throng_chaos::record::{Event, Keeps, Log, Shared};
use throng_chaos::run::Run;

async fn play(bug: Bug) -> Verdict {
    let size = Size {
        seed: 7,
        clients: 30,
        rooms: 3,
        duration: Duration::from_secs(3),
        kills: 2,
        stops: 1,
        cuts: 6.0,
        rate: 200.0,
        streams: false,
        keeps: Keeps { durable: true, history: 1000, little: false, shared: None },
        patience: Duration::from_secs(if bug == Bug::None { 20 } else { 3 }),
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("log.jsonl");
    let log = Log::create(&file).unwrap();
    let mut run = Run::begin(size, Fake::new(bug).await.unwrap(), log).await.unwrap();
    run.harm().await.unwrap();
    // As many as on a machine that has nothing else to do.
    let end = Instant::now() + Duration::from_secs(30);
    while run.cuts() <= 5 {
        assert!(Instant::now() < end, "the proxy does nothing");
        run.cut_one();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    run.finish().await.unwrap();
    let verdict = check_file(&file).unwrap();
    let mut text = Vec::new();
    verdict.print(&file, &mut text).unwrap();
    println!("{}", String::from_utf8(text).unwrap());
    verdict
}

#[tokio::test]
async fn a_right_server_passes() {
    let verdict = play(Bug::None).await;
    assert!(verdict.holds());
}

/// Three nodes: one is killed and comes back, and the room begins anew; all that under cuts.
async fn play_nodes(bug: Bug, shared: Shared) -> Verdict {
    let size = Size {
        seed: 7,
        clients: 24,
        rooms: 3,
        duration: Duration::from_secs(1),
        kills: 0,
        stops: 0,
        cuts: 6.0,
        rate: 200.0,
        streams: false,
        keeps: Keeps { durable: true, history: 1000, little: false, shared: Some(shared) },
        patience: Duration::from_secs(if bug == Bug::None { 20 } else { 3 }),
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("log.jsonl");
    let log = Log::create(&file).unwrap();
    let fake = Fake::with_nodes(bug, 3).await.unwrap();
    let mut run = Run::begin(size, fake, log).await.unwrap();
    run.harm().await.unwrap();
    run.write(Event::Struck { what: "a node and what all share".into() });
    run.victim.kill_node(1);
    run.harm().await.unwrap();
    if shared.renews {
        run.victim.renew();
    }
    run.start().await.unwrap();
    run.harm().await.unwrap();
    run.write(Event::Mended);
    run.finish().await.unwrap();
    let verdict = check_file(&file).unwrap();
    let mut text = Vec::new();
    verdict.print(&file, &mut text).unwrap();
    println!("{}", String::from_utf8(text).unwrap());
    verdict
}

const LOSES: Shared = Shared { renews: true, loses: true, forgets: false };

#[tokio::test]
async fn right_nodes_pass() {
    for shared in [Shared::default(), LOSES] {
        assert!(play_nodes(Bug::None, shared).await.holds());
    }
}

#[tokio::test]
async fn a_loss_that_was_not_allowed_is_found_out() {
    let lost = Shared { loses: false, ..LOSES };
    assert!(!play_nodes(Bug::None, lost).await.holds());
}

macro_rules! found_out_of_nodes {
    ($($name:ident: $bug:ident by $check:ident;)+) => {$(
        #[tokio::test]
        async fn $name() {
            let verdict = play_nodes(Bug::$bug, LOSES).await;
            assert!(verdict.findings().iter().any(|finding| finding.check == Check::$check));
        }
    )+};
}

found_out_of_nodes! {
    a_silent_renewal_is_found_out: SilentRenewal by Recovery;
    numbers_given_twice_are_found_out: SameEpoch by Order;
    nodes_that_do_not_know_each_others_refs_are_found_out: NodesApart by Once;
}

macro_rules! found_out {
    ($($name:ident: $bug:ident by $check:ident;)+) => {$(
        #[tokio::test]
        async fn $name() {
            let verdict = play(Bug::$bug).await;
            assert!(verdict.findings().iter().any(|finding| finding.check == Check::$check));
        }
    )+};
}

found_out! {
    a_lost_tail_is_found_out: LosesTheTail by Delivered;
    a_second_publish_is_found_out: PublishesAgain by Once;
    a_hole_after_a_resume_is_found_out: SkipsOne by Delivered;
    forgotten_sessions_are_found_out: ForgetsSessions by Recovery;
    ghosts_are_found_out: KeepsGhosts by Presence;
    leaks_are_found_out: Leaks by Members;
}
