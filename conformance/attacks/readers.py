"""Readers that do not read, among others that do."""

import threading

from attacks import MEBIBYTE, Growth, attack, bystander, check, crowd, disperse, throng, unharmed, upgrade
from rig.frames import TEXT, text

COUNT = 16_000
FILLER = "x" * 1000


def broadcast_beside_a_slow_reader(server):
    """One sends, three read everything in order, one never reads; returns that one."""
    stuck, _ = upgrade(server.port, "/relay", receive_buffer=4096)
    readers, trouble = crowd(server, 3, "/relay"), []

    def follow(reader, name):
        for n in range(COUNT):
            got = reader.message(30)
            if got != (TEXT, f"{n} {FILLER}".encode()):
                trouble.append(f"reader {name} got {str(got)[:60]} instead of message {n}")
                return

    threads = [threading.Thread(target=follow, args=(reader, name)) for name, reader in enumerate(readers)]
    for thread in threads:
        thread.start()
    with upgrade(server.port, "/relay")[0] as sender:
        for start in range(0, COUNT, 20):
            sender.send(b"".join(text(f"{n} {FILLER}") for n in range(start, start + 20)))
            for n in range(start, start + 20):  # its own echoes pace it, so that only one reader is slow
                check(sender.message(30) == (TEXT, f"{n} {FILLER}".encode()), f"the sender misses message {n}")
    for thread in threads:
        thread.join(60)
    disperse(readers)
    check(not trouble, "; ".join(trouble))
    return stuck


@attack
def a_slow_reader_is_disconnected_and_nobody_else_notices():
    with throng('[relay]\nslow = "disconnect"\n') as server, bystander(server) as peer:
        growth = Growth(server)
        with broadcast_beside_a_slow_reader(server) as stuck:
            growth.check(16 * MEBIBYTE, "a slow reader")
            seen, last = 0, None
            while True:
                last = stuck.message(10)
                if isinstance(last, str):
                    break
                check(last[1].startswith(f"{seen} ".encode()), f"{last[1][:20]} instead of message {seen}")
                seen += 1
            check(last in ("close 4508", "end of file", "reset"), f"the slow reader ends with {last}")
            check(seen < COUNT, "the slow reader missed nothing, so the test tests nothing")
        unharmed(server, peer)


@attack
def a_slow_reader_may_miss_messages_where_that_is_wanted():
    with throng('[relay]\nslow = "drop"\n') as server, bystander(server) as peer:
        growth = Growth(server)
        with broadcast_beside_a_slow_reader(server) as stuck:
            growth.check(16 * MEBIBYTE, "a slow reader")
            with upgrade(server.port, "/relay")[0] as sender:
                seen, got = [], None
                while got != (TEXT, b"the last"):
                    sender.send(text("the last"))  # as room comes free, new messages arrive again
                    got = stuck.message(10)
                    check(not isinstance(got, str), f"the slow reader is gone: {got}")
                    if got != (TEXT, b"the last"):
                        seen.append(int(got[1].split()[0]))
            check(seen == sorted(set(seen)), "messages out of order or twice")
            check(len(seen) < COUNT, "the slow reader missed nothing, so the test tests nothing")
        unharmed(server, peer)
