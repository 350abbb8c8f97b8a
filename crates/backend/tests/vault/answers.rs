use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

use throng_backend::{Answer, UserRow};
use throng_hub::Unavailable;

use super::rig::*;

#[test]
fn an_answer_that_panics_or_drops_the_vault() {
    each(|w| {
        w.vault.find("s_1", |_| panic!("as a test"));
        assert_eq!(find(&w.vault, "s_1"), None, "it goes on");
        // The last one lets go on the vault's own thread.
        let Some(last) = w.another() else { return };
        let (tell, told) = mpsc::channel();
        let asked = last.clone();
        asked.user("ada", move |user| {
            assert_eq!(user, Ok(None));
            drop(last);
            tell.send(()).unwrap();
        });
        drop(asked);
        told.recv_timeout(LONG).unwrap();
        assert_eq!(find(&w.vault, "s_1"), None);
    });
}

#[test]
fn all_that_was_asked_is_answered_before_it_closes() {
    each(|w| {
        let (good, all) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        for n in 0..5000 {
            let (good, all) = (good.clone(), all.clone());
            w.vault.issue(w.ticket(n, "ada"), move |issued| {
                good.fetch_add(usize::from(issued.is_ok()), Ordering::Relaxed);
                all.fetch_add(1, Ordering::Relaxed);
            });
        }
        w.vault.close();
        assert_eq!(all.load(Ordering::Relaxed), 5000);
        assert_eq!(good.load(Ordering::Relaxed), 5000);
        assert_eq!(ask(|done| w.vault.find("s_1", done)), Err(Unavailable), "closed");
        w.vault.end("s_1");
        w.vault.close();
        let Some(other) = w.another() else { return };
        other.sweep(w.start, DAY);
        until(|| other.stats().tickets == 5000);
    });
}

#[test]
fn too_much_waits() {
    let vault = memory();
    begin(&vault, row("s_1", "ada"));
    let (go, wait) = mpsc::channel::<()>();
    let (busy, is_busy) = mpsc::channel();
    vault.user("ada", move |_| {
        busy.send(()).unwrap();
        let _ = wait.recv_timeout(LONG);
    });
    is_busy.recv_timeout(LONG).unwrap();
    let (good, bad) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let count = || {
        let (good, bad) = (good.clone(), bad.clone());
        move |answer: Answer<Option<UserRow>>| {
            let count = if answer.is_ok() { good } else { bad };
            count.fetch_add(1, Ordering::Relaxed);
        }
    };
    for _ in 0..100_000 {
        vault.user("ada", count());
    }
    assert_eq!((vault.stats().queued, bad.load(Ordering::Relaxed)), (100_000, 0));
    for refused in 1..=10 {
        vault.user("ada", count());
        assert_eq!(bad.load(Ordering::Relaxed), refused, "at once");
    }
    vault.end("s_1");
    assert_eq!(vault.stats().queued, 100_001, "what must be done is taken in");
    go.send(()).unwrap();
    // A job has left the queue before it is answered, so that the answer may ask for more.
    until(|| good.load(Ordering::Relaxed) + bad.load(Ordering::Relaxed) == 100_010);
    assert_eq!((good.load(Ordering::Relaxed), bad.load(Ordering::Relaxed)), (100_000, 10));
    until(|| vault.stats().queued == 0);
    assert_eq!(gone(&vault, &["s_1"]), ["s_1"]);
}
