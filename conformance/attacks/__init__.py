"""The table of attacks: what is tried, and what must come of it.

Each row has a name, a category, what is tried (a function of a `Stage`), the outcome that throng must show, and by how much
the memory of the server may grow meanwhile, at its highest. In another room of the same server two bystanders chat all the
while: the median of their round trips must stay below `PATIENCE`, or what the machine makes of any round trip, and they must
get every message of theirs and no other.

Outcomes are plain words: a status (`400`), `cut` (the connection ended without an answer), `open` (nothing happened),
`close 1002`, `error bad_json`, or a sentence that the row alone can say. They are compared with `want` as patterns
(`fnmatch`), so what a row lists is all that it may show.
"""

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from hashlib import sha256
from typing import Callable

MEBIBYTE = 1 << 20
PATIENCE = 0.050  # seconds that a round trip of the bystanders may take, in the middle


@dataclass(frozen=True)
class World:
    """A server that attacks have in common: its configuration, and what it needs beside it."""

    name: str
    config: str = ""
    arguments: tuple = ()
    prepare: Callable = None  # of the folder, before the start; returns configuration to add, or None
    data: bool = False  # whether it keeps its rooms on disk
    bystanders: bool = True
    log: str = "debug"
    limit_files: int = 0  # what `ulimit -n` says to it


@dataclass
class Attack:
    category: str
    name: str
    want: tuple
    run: Callable  # of a Stage; returns the outcome
    world: World
    ceiling: int  # MiB
    needs: str = ""
    bystanders: bool = True
    own: bool = False  # whether it needs a server of its own: it ends it, or what it fills does not become empty

    def as_wanted(self, outcome):
        return any(fnmatchcase(outcome, pattern) for pattern in self.want)

    @property
    def missing(self):
        return self.needs in MISSING


@dataclass
class Table:
    """The rows of one category."""

    category: str
    world: World = None
    ceiling: int = 8
    needs: str = ""
    rows: list = field(default_factory=list)

    def add(self, name, want, run, *, world=None, ceiling=None, needs=None, bystanders=True, own=False):
        want = (want,) if isinstance(want, str) else tuple(want)
        world = world or self.world or OPEN
        self.rows.append(Attack(self.category, name, want, run, world, self.ceiling if ceiling is None else ceiling,
                                self.needs if needs is None else needs, bystanders and world.bystanders, own))

    def row(self, name, want, **how):
        """For functions: `@table.row("a name", "400")`."""

        def keep(run):
            self.add(name, want, run, **how)
            return run

        return keep


class Check(AssertionError):
    """What a row found wrong on its way."""


def check(condition, message):
    if not condition:
        raise Check(message)


# Every server of the suite takes this key.
KEY = "tk_" + "attacks2".ljust(32, "a")
AUTHORIZED = f"Authorization: Bearer {KEY}"
SCOPES = {scope: "tk_" + scope.ljust(32, "s") for scope in ("publish", "read", "tickets", "sessions", "rooms")}


def _keys():
    lines = [f"suite:{sha256(KEY.encode()).hexdigest()}"]
    return lines + [f"{scope}:{sha256(key.encode()).hexdigest()}:{scope}" for scope, key in SCOPES.items()]



# Features that rows need and the server does not have yet: those rows are listed as missing.
MISSING = set()
API = "[api]\nkeys = [" + ", ".join(f'"{line}"' for line in (_keys() if "tickets" not in MISSING else _keys()[:1])) + "]\n"

# Everything at its defaults, but times that a test would wait for.
OPEN = World("defaults", '[limits]\nhandshake_timeout = "2s"\n')


def all_attacks():
    """Every row, in the order of the categories."""
    from attacks import categories

    found = [attack for module in categories() for attack in module.ATTACKS.rows]
    names = [f"{attack.category}: {attack.name}" for attack in found]
    twice = {name for name in names if names.count(name) > 1}
    assert not twice, f"two attacks are called {', '.join(sorted(twice))}"
    return found


def categories():
    """The modules of rows, in the order of SECURITY.md."""
    from importlib import import_module

    return [import_module(f"attacks.{name}") for name in ORDER]


ORDER = tuple("""
smuggling http origins slowness framing compression floods encoding
messages names display logs resume rooms api tickets
jwt login webhook sessions tls readers crowds memory
life counters
""".split())
