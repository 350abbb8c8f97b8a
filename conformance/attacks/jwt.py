"""JSON Web Tokens that are signed by nobody, by the wrong key, in the wrong way, or for something else."""

import base64
import hashlib
import hmac
import json
import subprocess
import time

from attacks import Table, World, check
from rig.frames import request

SECRET = b"0123456789abcdef0123456789abcdef-of-the-suite"


def keys(folder):
    """A secret, and an RSA pair whose public half the server knows."""
    (folder / "secret").write_bytes(SECRET)
    (folder / "secret").chmod(0o600)
    return {}


def pair(folder):
    run = lambda *words: subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)  # noqa: E731
    run("genrsa", "-out", "private.pem", "2048")
    run("rsa", "-in", "private.pem", "-pubout", "-out", "public.pem")
    run("rsa", "-in", "private.pem", "-RSAPublicKey_out", "-out", "pkcs1.pem")
    run("genrsa", "-out", "other.pem", "2048")
    return {"folder": folder}


HS = World("JWT with a secret", '[jwt]\nalgorithms = ["HS256"]\nsecret_file = "secret"\nissuer = "https://issuer.example"\naudience = "throng"\nleeway = "0s"\n', prepare=keys)
RS = World("JWT with RSA", '[jwt]\nalgorithms = ["RS256"]\nkey_file = "public.pem"\nissuer = "https://issuer.example"\naudience = "throng"\nleeway = "0s"\n', prepare=pair)
ATTACKS = Table("JWT", HS, needs="jwt")


def part(value):
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def claims(**change):
    now = int(time.time())
    full = {"sub": "ada", "iss": "https://issuer.example", "aud": "throng", "iat": now - 10, "exp": now + 300, "rooms": {"team:*": ["join", "send"]}}
    return {name: value for name, value in {**full, **change}.items() if value is not ...}


def signed(header=None, body=None, secret=SECRET, digest=hashlib.sha256):
    head = part({"alg": "HS256", "typ": "JWT", **(header or {})})
    text = f"{head}.{part(claims() if body is None else body)}"
    return f"{text}.{part(hmac.new(secret, text.encode(), digest).digest())}"


def rsa(folder, header=None, body=None, key="private.pem", digest="-sha256"):
    text = f"{part({'alg': 'RS256', 'typ': 'JWT', **(header or {})})}.{part(claims() if body is None else body)}"
    made = subprocess.run(["openssl", "dgst", digest, "-sign", folder / key], input=text.encode(), check=True, capture_output=True).stdout
    return f"{text}.{part(made)}"


def refused(name, make, want="401", world=None):
    """None of the tokens lets anybody in, by any of the four ways; a good one does."""

    def run(stage):
        good = rsa(stage.facts["folder"]) if world is RS else signed()
        check(stage.enters(query={"token": good}) == "101 ada", f"a good token is answered {stage.enters(query={'token': good})}")
        found, tokens = set(), make(stage) if callable(make) else make
        for n, token in enumerate(tokens):
            found.add(stage.enters(query={"token": token}))
            if token.replace(".", "").replace("-", "").replace("_", "").isalnum():
                found.add(stage.enters(headers=[f"Authorization: Bearer {token}"]))
                found.add(stage.enters(protocols=["throng.v1", f"token.{token}"]))
            if n < 2:
                found.add(stage.enters("/ws/demo:a", query={"token": token}))  # where nobody needs one
        return " / ".join(sorted(found))

    ATTACKS.add(name, want, run, world=world)


def bare(header, body=None, signature=""):
    return f"{part(header)}.{part(claims() if body is None else body)}.{signature}"


refused("alg: none, in every spelling", lambda s: [bare({"alg": alg, "typ": "JWT"}, signature=signature) for alg in ("none", "None", "NONE", "nOnE", "", None, 0, [], {})
        for signature in ("", "x", signed().split(".")[2])])
refused("no algorithm at all", lambda s: [bare({"typ": "JWT"}), bare({}), bare([]), bare("HS256"), bare(b"")])
refused("other algorithms with the right secret", lambda s: [signed({"alg": "HS384"}, digest=hashlib.sha384), signed({"alg": "HS512"}, digest=hashlib.sha512),
        signed({"alg": "hs256"}), signed({"alg": "HS256 "}), signed({"alg": ["HS256"]}), signed({"alg": "RS256"}), signed({"alg": "EdDSA"})])
refused("other secrets", lambda s: [signed(secret=secret) for secret in (b"", b"\0", b"secret", SECRET[:-1], SECRET + b"\n", SECRET.upper(), b"secret" * 10, base64.b64encode(SECRET))])
refused("the signature cut, changed, doubled, of another token", lambda s: [".".join(signed().split(".")[:2]), signed()[:-1], signed()[:-5] + "AAAAA", signed() + "A",
        signed() + "." + signed().split(".")[2], signed().rsplit(".", 1)[0] + ".", signed().rsplit(".", 1)[0] + "." + signed(body=claims(sub="bob")).split(".")[2]])
refused("claims exchanged under a good signature", lambda s: [".".join((signed().split(".")[0], part(claims(sub="admin")), signed().split(".")[2])),
        ".".join((part({"alg": "HS256", "typ": "JWT", "kid": "1"}), *signed().split(".")[1:]))])
refused("expired, by a second, by an hour, by its own word", lambda s: [signed(body=claims(exp=exp)) for exp in (int(time.time()) - 1, int(time.time()) - 3600, 0, -1)])
refused("exp that is no time, or missing", lambda s: [signed(body=claims(exp=exp)) for exp in (..., None, "never", "99999999999", [], {}, True, 1e300, float("1e18"), -1e300)])
refused("good only later", lambda s: [signed(body=claims(nbf=int(time.time()) + 3600)), signed(body=claims(nbf="later")), signed(body=claims(iat=int(time.time()) + 3600))])
refused("for another audience", lambda s: [signed(body=claims(aud=aud)) for aud in ("other", ["other"], [], ..., None, "", "throng ", "THRONG", {"throng": 1}, 1, ["other", "throng2"])])
refused("of another issuer", lambda s: [signed(body=claims(iss=iss)) for iss in ("https://evil.example", "https://issuer.example/", "https://issuer.example.evil", ..., None, "", 1, "HTTPS://ISSUER.EXAMPLE")])
refused("users that are none", lambda s: [signed(body=claims(sub=sub)) for sub in (..., None, "", 1, True, [], {}, ["ada"], "a b", "ada\0", "x" * 128, "ada\n", "é", "*")])
refused("rights that are none", lambda s: [signed(body=claims(rooms=rooms)) for rooms in ("*", ["team:*"], {"team:*": "join"}, {"team:*": ["admin"]}, {"a b": ["join"]}, 1, {f"r{n}": ["join"] for n in range(65)})])
refused("kid: paths, SQL, URLs, commands, nothing, huge", lambda s: [signed({"kid": kid}, secret=secret) for kid in (
    "../../../../dev/null", "/dev/null", "secret", "x' UNION SELECT 'a", "http://127.0.0.1/", "$(id)", "", "\0", "k" * 1000, 1, None, ["a"])
    for secret in (b"", b"a", b"\0")])
refused("keys in the token: jwk, jku, x5u, x5c", lambda s: [signed({"jwk": {"kty": "oct", "k": part(b"mine")}}, secret=b"mine"), signed({"jku": f"http://127.0.0.1:{s.port}/"}, secret=b"mine"),
        signed({"x5u": f"http://127.0.0.1:{s.port}/", "kid": "1"}, secret=b"mine"), signed({"x5c": [base64.b64encode(b"mine").decode()]}, secret=b"mine")])
refused("crit, b64 and other types of tokens", lambda s: [signed({"crit": ["exp"]}), signed({"crit": ["b64"], "b64": False}), signed({"crit": []}) + "A", signed({"typ": "logout+jwt"}),
        signed({"typ": "secevent+jwt"}), signed({"typ": "dpop+jwt"})])
refused("encrypted, nested, unpacked and other forms", lambda s: ["a.b.c.d.e", "....", "..", ".", "a", signed().replace(".", ""), signed()[::-1], signed() + "=", " " + signed(), signed() + " ",
        signed().replace(".", "%2e"), json.dumps({"payload": signed()}), f"{part(b'{')}.{part(b'{')}.x", f"{part(b'[' * 1000)}.{part(b'[' * 1000)}.x"])
refused("base64 with padding, with other letters, with bits left over", lambda s: [token.replace("-", "+").replace("_", "/") if "-" in token or "_" in token else token + "=" for token in
        (signed(), signed(body=claims(info="?" * 20)))] + [signed() + "==", "\n" + signed()])


def leftover(stage):
    """The last letter of a signature of 32 bytes has two bits that mean nothing: another letter with the same four bits is another spelling."""
    token = signed()
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    at = letters.index(token[-1])
    found = {stage.enters(query={"token": token[:-1] + letters[at // 4 * 4 + n]}) for n in range(4) if at // 4 * 4 + n != at}
    return " / ".join(found)


ATTACKS.add("another spelling of a good signature", "401", leftover)
refused("huge: 8 KiB, 1 MiB", lambda s: [signed(body=claims(info="x" * 8_000)), signed(body=claims(info={f"f{n}": n for n in range(700)}))], "400 / 401")
ATTACKS.add("1 MiB in every place", "431", lambda stage: " / ".join(sorted({
    stage.raw(request("/ws/team:a?token=" + "a." * 500_000)), stage.raw(request("/ws/team:a", add=["Authorization: Bearer " + "a." * 500_000])),
    stage.raw(request("/ws/team:a", add=["Sec-WebSocket-Protocol: token." + "a." * 500_000]))})))


@ATTACKS.row("a refresh with another user's token", "error unauthorized")
def _(stage):
    from rig.rooms import outcome

    with stage.client(full=True, query={"token": signed()}) as client:
        found = {outcome(client.ask({"type": "auth", "token": token})) for token in (signed(body=claims(sub="bob")), signed(secret=b"x"), bare({"alg": "none"}))}
        check(outcome(client.ask({"type": "auth", "token": signed()})) == "authed", "a good one is not taken")
        return " / ".join(found)


@ATTACKS.row("after its revocation", "401")
def _(stage):
    token = signed(body=claims(jti="attack-1", sub="eve"))
    check(stage.enters(query={"token": token}) == "101 eve", "a good token is not taken")
    check(stage.api("POST", "/tokens/attack-1/revoke", {}).status == 200, "not revoked")
    other = signed(body=claims(jti="attack-2", sub="eve"))
    check(stage.enters(query={"token": other}) == "101 eve", "another token is refused, too")
    return stage.enters(query={"token": token})


@ATTACKS.row("issued before its user was revoked", "401")
def _(stage):
    token = signed(body=claims(sub="mallory"))
    check(stage.enters(query={"token": token}) == "101 mallory", "a good token is not taken")
    check(stage.api("POST", "/users/mallory/revoke", {}).status == 200, "not revoked")
    return " / ".join({stage.enters(query={"token": token}), stage.enters(query={"token": signed(body=claims(sub="mallory", iat=...))})})


# --- Two kinds of keys.
refused("the public key as the secret (RS256 told to be HS256)", lambda s: [signed({"alg": "HS256"}, secret=secret) for name in ("public.pem", "pkcs1.pem") for secret in (
    (s.facts["folder"] / name).read_bytes(), (s.facts["folder"] / name).read_bytes().strip(), (s.facts["folder"] / name).read_bytes().replace(b"\n", b""),
    base64.b64decode(b"".join((s.facts["folder"] / name).read_bytes().splitlines()[1:-1])))], world=RS)
refused("signed by another RSA key", lambda s: [rsa(s.facts["folder"], key="other.pem"), rsa(s.facts["folder"], {"kid": "1"}, key="other.pem")], world=RS)
refused("RS256 with another hash or scheme", lambda s: [rsa(s.facts["folder"], {"alg": "RS512"}, digest="-sha512"), rsa(s.facts["folder"], digest="-sha512"), rsa(s.facts["folder"], {"alg": "PS256"}),
        rsa(s.facts["folder"], {"alg": "ES256"})], world=RS)
refused("alg: none where RSA is meant", lambda s: [bare({"alg": "none"}), bare({"alg": "RS256"}), bare({"alg": "RS256"}, signature=part(bytes(256))), bare({"alg": "RS256"}, signature=part(b"\1"))], world=RS)
refused("ES256 with a signature of zeros", lambda s: [bare({"alg": "ES256"}, signature=part(bytes(64))), bare({"alg": "EdDSA"}, signature=part(bytes(64)))], world=RS)
