"""Two who chat while others attack: a process of its own, so that what the attacker computes does not delay it.

    python3 bystanders.py PORT ROOM

Prints a line for each round trip: when it was over (CLOCK_MONOTONIC, seconds), how long it took, and how long one to a process takes that has
nothing else to do (milliseconds): what the machine is like just then. Or, as its last line, `lost` and why.
"""

import json
import os
import socket
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

from rig.rooms import Client  # noqa: E402

PAUSE = 0.010
ADDRESS = "127.0.0.77"  # not the attacker's


def main():
    port, room = int(sys.argv[1]), sys.argv[2]
    try:
        chat(port, f"/ws/{room}", neighbour())
    except BrokenPipeError:
        pass
    except (OSError, ValueError, KeyError) as error:
        print(f"lost: {error}", flush=True)


def neighbour():
    """A process that gives each byte back. It ends with this one."""
    near, far = socket.socketpair()
    if os.fork() == 0:
        near.close()
        while data := far.recv(1):
            far.send(data)
        os._exit(0)
    far.close()
    return near


def chat(port, path, idle):
    speaker = Client(port, path, source=ADDRESS)
    listener = Client(port, path, source=ADDRESS)
    if "code" in speaker.hello or "code" in listener.hello:
        raise ValueError(f"not let in: {speaker.hello}")
    speaker.next("user_joined")
    seq = listener.hello.get("seq", 0)
    number = 0
    while True:
        number += 1
        started = time.monotonic()
        speaker.write({"type": "chat", "number": number, "ref": number})
        got = {}
        for name, client in (("listener", listener), ("speaker", speaker), ("speaker", speaker)):
            message = client.next(timeout=30)
            if message["type"] == "end":
                raise ValueError(f"the {name} has {message['how']}")
            got[name, message["type"]] = message
            if name == "listener":
                took = time.monotonic() - started
        seq += 1
        for name in ("listener", "speaker"):
            message = got.get((name, "chat"), {})
            if message.get("number") != number or message.get("seq") != seq or message.get("from") != speaker.user:
                raise ValueError(f"the {name} got {json.dumps(list(got.values()))[:500]} instead of number {number}, seq {seq}")
        over = time.monotonic()
        idle.send(b".")
        idle.recv(1)
        print(f"{over:.4f} {took * 1000:.2f} {(time.monotonic() - over) * 1000:.2f}", flush=True)
        time.sleep(PAUSE)


if __name__ == "__main__":
    main()
