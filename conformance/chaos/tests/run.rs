//! Whole runs against a server of a few lines: a right one passes, each kind of wrong one is found out.

#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

mod fake;

use std::time::Duration;

use fake::{Bug, Fake};
use throng_chaos::check::{Check, Verdict, check_file};
use throng_chaos::plan::Size;
use throng_chaos::record::{Keeps, Log};
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
        keeps: Keeps { durable: true, history: 1000, little: false },
        patience: Duration::from_secs(if bug == Bug::None { 20 } else { 3 }),
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("log.jsonl");
    let log = Log::create(&file).unwrap();
    let mut run = Run::begin(size, Fake::new(bug).await.unwrap(), log).await.unwrap();
    run.harm().await.unwrap();
    run.finish().await.unwrap();
    assert!(run.cuts() > 5, "the proxy did nothing");
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
