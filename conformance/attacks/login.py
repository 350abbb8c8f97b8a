"""POST /login: guessing passwords, guessing who has one, other sites' pages, and what a slow hash costs."""

import json
import statistics
import subprocess
import threading
import time

from attacks import Table, World, check
from rig.servers import without_settings

USERS = {"ada": "correct horse battery", "bob": "staple staple staple", "eve": "nobody guesses this"}


def users(folder):
    (folder / "prepare").write_text(json.dumps(USERS))
    return {"users": USERS}


# Without a limit for addresses that are exempt, the suite could not be stopped by one.
OPEN = World("logins", '[login]\nenabled = true\nattempts = "1000/s burst 100000"\n', prepare=users, data=True)
FEW = World("few logins", '[login]\nenabled = true\nattempts = "5/m burst 5"\n[limits]\nexempt = []\nmax_connections_per_ip = 100000\nhandshakes_per_ip = "off"\n', prepare=users, data=True)
ATTACKS = Table("login", OPEN, needs="login")


def ready(stage):
    """The users of the table, made with the command line while the server runs."""
    if stage.facts.get("made"):
        return
    for user, password in USERS.items():
        done = subprocess.run([str(stage.program), "user", "add", user, "--password-stdin", "--data", str(stage.server.folder / "data"), "--room", "team:*"],
                              input=password + "\n", text=True, capture_output=True, env=without_settings())
        check(done.returncode == 0, f"no user: {done.stdout}{done.stderr}")
    stage.facts["made"] = True
    deadline = time.monotonic() + 10
    while login(stage, "ada", USERS["ada"]).status != 200:
        check(time.monotonic() < deadline, f"nobody can log in: {login(stage, 'ada', USERS['ada'])}")
        time.sleep(0.1)


def login(stage, user, password, headers=(), client=None, **how):
    ask = client.ask if client else stage.http
    return ask("POST", "/login", headers=list(headers), body={"user": user, "password": password}, timeout=30, **how)


def row(name, want, **how):
    def keep(run):
        def after(stage):
            ready(stage)
            return run(stage)

        ATTACKS.add(name, want, after, **how)
        return run

    return keep


@row("a right password gives one ticket (and that is all)", "200, no cookie, 101 ada, 401")
def _(stage):
    answer = login(stage, "ada", USERS["ada"])
    ticket = answer.json()["ticket"]
    return f"{answer.status}, {'a cookie' if answer.get('set-cookie') else 'no cookie'}, {stage.enters(query={'ticket': ticket})}, {stage.enters(query={'ticket': ticket})}"


@row("wrong passwords and unknown users are answered alike", "the same answer")
def _(stage):
    found = set()
    for user, password in (("ada", "wrong"), ("nobody", "wrong"), ("ada", ""), ("", ""), ("ADA", USERS["ada"]), ("ada ", USERS["ada"]), ("ada", USERS["ada"] + "\0"), ("ada", USERS["ada"][:-1]),
                           ("ada' OR '1'='1", "x"), ("*", "*"), ("ada\0", USERS["ada"]), ("__proto__", "x"), ("ada", USERS["bob"])):
        answer = login(stage, user, password)
        found.add((answer.status, answer.body))
    return "the same answer" if len(found) == 1 and next(iter(found))[0] == 401 else f"{found}"


@row("how long unknown users take tells nothing", "the same time")
def _(stage):
    with stage.browser() as client:
        for _ in range(3):
            times = {"ada": [], "nobody": []}
            for _ in range(8):
                for user in times:
                    started = time.perf_counter()
                    login(stage, user, "wrong", client=client)
                    times[user].append(time.perf_counter() - started)
            known, unknown = statistics.median(times["ada"]), statistics.median(times["nobody"])
            if 0.5 < unknown / known < 2:
                return "the same time"
    return f"known {known * 1000:.0f} ms, unknown {unknown * 1000:.0f} ms"


@row("from another site's page", "403")
def _(stage):
    return " / ".join({str(login(stage, "ada", USERS["ada"], headers=[f"Origin: {origin}"]).status) for origin in ("http://evil.example", "null", f"http://127.0.0.1:{stage.port}.evil.example", "")})


@row("as a form of another site, which needs no preflight", "403 / 415")
def _(stage):
    found = set()
    for kind, body in (("application/x-www-form-urlencoded", b"user=ada&password=x"), ("text/plain", json.dumps({"user": "ada", "password": USERS["ada"]}).encode()),
                       ("multipart/form-data; boundary=x", b"--x--")):
        for headers in ([], ["Origin: http://evil.example"]):
            found.add(stage.status("POST", "/login", headers=[f"Content-Type: {kind}", *headers], body=body))
    return " / ".join(sorted(found))


@row("passwords and names that are too long, or no text", "400 / 401 / 413")
def _(stage):
    found = {str(login(stage, user, password).status) for user, password in (("ada", "x" * 5_000), ("x" * 5_000, "x"), ("ada", 1), (None, "x"), ("ada", None), (["ada"], "x"), ("ada", {"$ne": 1}),
             ("ada", "x" * 2_000_000))}
    found |= {stage.status("POST", "/login", headers=["Content-Type: application/json"], body=body) for body in (b"{", b"", b"[]", b'{"user":"ada","user":"bob","password":"x"}', b"\xff")}
    return " / ".join(sorted(found))


@row("by GET, with the password in the query", "200, no ticket")
def _(stage):
    answer = stage.http("GET", f"/login?user=ada&password={USERS['ada'].replace(' ', '%20')}")
    return f"{answer.status}, {'a ticket' if b't_' in answer.body else 'no ticket'}"


@row("100 at once: the slow hash does not eat memory or the bystanders' time", ("held",), ceiling=160)
def _(stage):
    found, lock = [], threading.Lock()

    def guess(n):
        answer = login(stage, "ada", f"wrong {n}")
        with lock:
            found.append(getattr(answer, "status", answer))

    threads = [threading.Thread(target=guess, args=(n,)) for n in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return "held" if set(found) <= {401, 429, 503} and 401 in found else f"{set(found)}"


@row("the password in the log, at the level trace", "not logged", world=World("logins, everything logged", OPEN.config, prepare=users, data=True, log="trace"))
def _(stage):
    login(stage, "ada", USERS["ada"])
    login(stage, "ada", "sekret-wrong")
    login(stage, "sekret-user", "sekret-wrong")
    log = stage.log()
    return "not logged" if b"sekret" not in log and USERS["ada"].encode() not in log else "logged"


@row("guessing for one name, from many addresses", "429 with Retry-After", world=FEW)
def _(stage):
    found = [stage.http("POST", "/login", body={"user": "eve", "password": f"wrong {n}"}, source=f"127.0.1.{n + 1}", timeout=30) for n in range(12)]
    late = [f"{answer.status}{' with Retry-After' if answer.get('retry-after') else ''}" for answer in found[8:]]
    return " / ".join(sorted(set(late)))


@row("guessing for many names, from one address", "429 with Retry-After", world=FEW)
def _(stage):
    found = [stage.http("POST", "/login", body={"user": f"user{n}", "password": "wrong"}, source="127.0.2.1", timeout=30) for n in range(12)]
    late = [f"{answer.status}{' with Retry-After' if answer.get('retry-after') else ''}" for answer in found[8:]]
    return " / ".join(sorted(set(late)))


@row("guessing for one name does not tell whether it exists", "the same answers", world=FEW)
def _(stage):
    answers = {}
    for at, user in enumerate(("bob", "nobody-at-all")):
        answers[user] = [(answer.status, answer.body) for n in range(8)
                         if (answer := stage.http("POST", "/login", body={"user": user, "password": f"wrong {n}"}, source=f"127.0.3.{at * 10 + n + 1}", timeout=30))]
    one, two = answers.values()
    return "the same answers" if [status for status, _ in one] == [status for status, _ in two] else f"{one} and {two}"
