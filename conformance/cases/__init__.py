"""The table of what the probe sends, and the outcome the RFCs want for each row.

A row's `want` lists the outcomes throng must show; `also` lists what the RFCs allow besides, for
the comparison with other servers. Both are patterns (`fnmatch`). Outcomes are plain words:

- of handshakes: `101`, `101 deflate`, `101 throng.v1`, a status such as `400`, `cut` (the
  connection ended without an answer), `open` (nothing happened)
- of frames: `echo` (every message came back, and a ping after them was answered), `close 1002`
  (the code of the server's close frame, and the TCP connection ended after it), `cut`, `open`
"""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Callable


@dataclass
class Case:
    group: str
    name: str
    section: str
    want: tuple
    also: tuple
    run: Callable  # of a Server; returns the outcome
    only: tuple = ()  # names of the servers it makes sense for; empty: all
    needs: Callable = None  # of a Server; whether it makes sense for it

    def applies(self, server):
        return (not self.only or server.name in self.only) and (not self.needs or bool(self.needs(server)))

    def judge(self, outcome):
        """"pass" as wanted, "allowed" by the RFCs, or "FAIL"."""
        if any(fnmatchcase(outcome, pattern) for pattern in self.want):
            return "pass"
        return "allowed" if any(fnmatchcase(outcome, pattern) for pattern in self.also) else "FAIL"


def patterns(value):
    return (value,) if isinstance(value, str) else tuple(value)


def all_cases():
    from cases import closing, deflate, framing, handshake, limits

    return [case for module in (handshake, framing, closing, deflate, limits) for case in module.CASES]
