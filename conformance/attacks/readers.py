"""Readers that do not read, among others that do."""

import threading

from attacks import Table, World, check
from attacks.stage import disperse
from rig.frames import TEXT, text

ATTACKS = Table("slow readers", ceiling=16)
COUNT = 16_000
FILLER = "x" * 1000
DISCONNECT = World("slow readers are disconnected", '[relay]\nslow = "disconnect"\n')
DROP = World("slow readers miss messages", '[relay]\nslow = "drop"\n')
LATEST = World("slow readers get the latest", '[relay]\nslow = "disconnect"\n[rooms]\nrate = "off"\nbytes_rate = "off"\n'
               '[[room]]\nmatch = "demo:latest"\nvolatile = true\nslow = "latest"\nslow_key = "who"\n')


def broadcast_beside_a_slow_reader(stage):
    """One sends, three read everything in order, one never reads; returns that one."""
    stuck = stage.upgrade("/relay", receive_buffer=4096)
    readers, trouble = stage.crowd(3, "/relay"), []

    def follow(reader, name):
        for n in range(COUNT):
            got = reader.message(30)
            if got != (TEXT, f"{n} {FILLER}".encode()):
                trouble.append(f"reader {name} got {str(got)[:60]} instead of message {n}")
                return

    threads = [threading.Thread(target=follow, args=(reader, name)) for name, reader in enumerate(readers)]
    for thread in threads:
        thread.start()
    with stage.upgrade("/relay") as sender:
        for start in range(0, COUNT, 20):
            sender.send(b"".join(text(f"{n} {FILLER}") for n in range(start, start + 20)))
            for n in range(start, start + 20):  # its own echoes pace it, so that only one reader is slow
                check(sender.message(30) == (TEXT, f"{n} {FILLER}".encode()), f"the sender misses message {n}")
    for thread in threads:
        thread.join(60)
    disperse(readers)
    check(not trouble, "; ".join(trouble))
    return stuck


@ATTACKS.row("a reader that never reads is disconnected, nobody else notices", ("close 4508", "end of file", "reset"), world=DISCONNECT)
def _(stage):
    with broadcast_beside_a_slow_reader(stage) as stuck:
        seen, last = 0, None
        while not isinstance(last := stuck.message(10), str):
            check(last[1].startswith(f"{seen} ".encode()), f"{last[1][:20]} instead of message {seen}")
            seen += 1
        check(seen < COUNT, "the slow reader missed nothing, so the test tests nothing")
        return last


@ATTACKS.row("a reader that never reads misses messages, where that is wanted", "misses some, in order", world=DROP)
def _(stage):
    with broadcast_beside_a_slow_reader(stage) as stuck, stage.upgrade("/relay") as sender:
        seen, got = [], None
        while got != (TEXT, b"the last"):
            sender.send(text("the last"))  # as room comes free, new messages arrive again
            got = stuck.message(10)
            check(not isinstance(got, str), f"the slow reader is gone: {got}")
            if got != (TEXT, b"the last"):
                seen.append(int(got[1].split()[0]))
        check(seen == sorted(set(seen)), "messages out of order or twice")
        check(len(seen) < COUNT, "the slow reader missed nothing, so the test tests nothing")
        return "misses some, in order"


@ATTACKS.row("a reader of a room that never reads", ("close 4508", "end of file", "reset"))
def _(stage):
    """The reader's past is there when it comes back: the history has what it missed last."""
    slow = stage.client("/ws/demo:slow", receive_buffer=4096)
    with stage.client("/ws/demo:slow") as speaker:
        for n in range(1, 400):
            speaker.write({"type": "chat", "text": "y" * 30_000, "ref": n})
            got = speaker.answer(n, 30)
            if got.get("code") == "rate_limited":
                break
            check(got["type"] == "ack", f"the speaker: {got}")
            speaker.seen.clear()
    while not isinstance(last := slow.peer.message(10), str):
        pass
    slow.peer.socket.close()
    return last


@ATTACKS.row("a slow reader of a room with the latest only", "the newest of each", world=LATEST, needs="latest")
def _(stage):
    slow = stage.client("/ws/demo:latest", receive_buffer=4096)
    with stage.client("/ws/demo:latest") as speaker:
        for n in range(4000):
            speaker.write({"type": "at", "who": f"p{n % 10}", "n": n, "fill": "z" * 2000})
            if n % 10 == 9:
                check(speaker.until(lambda m: m.get("n") == n, 30)["type"] == "at", "the speaker misses its own")
                speaker.seen.clear()
        newest, count = {}, 0
        for message in slow.all(1.0):
            if message["type"] == "at":
                check(newest.get(message["who"], -1) < message["n"], "out of order")
                newest[message["who"]], count = message["n"], count + 1
    slow.peer.socket.close()
    check(count < 4000, "it missed nothing, so the test tests nothing")
    return "the newest of each" if newest == {f"p{n}": 3990 + n for n in range(10)} else f"{newest}"
