"""JSON that is too deep, too wide, ambiguous, or means something to a careless reader."""

from attacks import Table, World
from attacks.stage import compact
from rig.rooms import outcome

ATTACKS = Table("messages")
ROOM = "/ws/demo:messages"


def row(name, want, *messages, full=False, **how):
    """Each message is sent by a client of its own; the outcome is what answers them, and the client must go on being served."""

    def run(stage):
        found = set()
        for message in messages:
            with stage.client("/ws" if full else ROOM, full=full) as client:
                client.write(message)
                client.write('{"type":"ping","sent":4711}')
                got = client.until(lambda m: m["type"] in ("error", "ack", "end") or m.get("sent") == 4711)
                found.add("taken" if got["type"] == "pong" else outcome(got))
        return " / ".join(sorted(found))

    ATTACKS.add(name, want, run, **how)


def nested(depth, opening="[", closing="]"):
    return '{"type":"chat","x":' + opening * depth + "1" + closing * depth + "}"


row("nested 64 deep and deeper", "error bad_message", nested(64), nested(65), nested(1000), nested(10_000), nested(30_000))
row("objects nested 10,000 deep", "error bad_message", nested(10_000, '{"a":', "}"))
row("60,000 opening brackets", "error bad_json", "[" * 60_000, '{"type":"chat","x":' + "[" * 60_000)
row("257 fields", "error bad_message", compact({"type": "chat", **{f"f{n}": n for n in range(257)}}))
row("20,000 fields", "error bad_message", compact({"type": "chat", **{f"{n:x}": 0 for n in range(5_000)}}))
row("a message of exactly too many bytes", "close 1009", '{"type":"chat","t":"' + "a" * 65_515 + '"}')
row("two fields of one name", "error bad_message", '{"type":"chat","a":1,"a":2}', '{"type":"chat","type":"kick"}',
    '{"type":"chat","room":"demo:messages","room":"demo:other"}', '{"type":"chat","ref":1,"ref":2}')
row("two fields of one name, one of them escaped", "error bad_message", r'{"type":"chat","a":1,"\u0061":2}', r'{"type":"chat","\u0074ype":"kick"}',
    r'{"type":"chat","ro\u006fm":"demo:messages","room":"demo:other"}')
row("numbers beyond every type (are data)", "taken", '{"type":"chat","n":1e999999}', '{"type":"chat","n":-1e999999}',
    '{"type":"chat","n":' + "9" * 10_000 + "}", '{"type":"chat","n":0.' + "0" * 10_000 + "1}")
row("ref: huge, negative, fractions, texts", "error bad_message",
    *('{"type":"chat","ref":%s}' % ref for ref in ("1e400", "9007199254740992", "-1", "0", "1.0", "1e2", '"1"', "true", "[1]", "9" * 5000)))
row("numbers where commands want small ones", "error bad_message",
    *('{"type":"history","limit":%s}' % n for n in ("201", "-1", "1e9", "99999999999999999999", '"5"', "null", "[]")))
row("__proto__, constructor and prototype as fields (are data)", "taken", '{"type":"chat","__proto__":{"admin":true}}',
    '{"type":"chat","constructor":{"prototype":{"admin":true}}}', '{"type":"chat","prototype":1,"toString":2,"hasOwnProperty":3,"valueOf":4}')
row("__proto__ and friends as types (are types)", "taken", '{"type":"__proto__"}', '{"type":"constructor"}', '{"type":"toString"}')
row("fields that only the server sets", "error reserved_field",
    *('{"type":"chat","%s":%s}' % pair for pair in (("from", '"admin"'), ("seq", "1"), ("timestamp", "0"), ("from", "null"))))
row("fields that only the server sets, escaped", "error reserved_field", r'{"type":"chat","fr\u006fm":"admin"}', r'{"type":"chat","\u0073eq":1}',
    r'{"type":"chat","times\u0074amp":1}')
row("types that only the server sends", "error reserved_field", *('{"type":"%s","room":"demo:messages"}' % kind for kind in (
    "connected", "joined", "left", "ack", "error", "user_joined", "user_left", "resumed", "authed", "pong", "reconnect")))
row("types that only the server sends, escaped", "error reserved_field", r'{"type":"err\u006fr"}', r'{"type":"\u0061ck"}')
row("types that are none", "error bad_message", '{"type":""}', '{"type":1}', '{"type":null}', '{"type":{}}', '{"type":["chat"]}', "{}",
    '{"type":"' + "t" * 65 + '"}', r'{"type":"a\u0000b"}', r'{"type":"a\nb"}', r'{"type":"\u001b[31m"}')
row("lone surrogates", "error bad_json", r'{"type":"chat","t":"\ud800"}', r'{"type":"chat","\udc00":1}',
    r'{"type":"chat","t":"\udc00\ud800"}')
row("what is no JSON", "error bad_json", "", " ", "{", '{"type":"chat",}', "{'type':'chat'}", "{type:1}", '{"type":"chat"}x', "NaN", "\0",
    '{"type":"chat","n":NaN}', '{"type":"chat","n":Infinity}', '{"type":"chat","n":01}', '{"type":"chat","n":+1}', '{"type":"chat"//\n}',
    '\ufeff{"type":"chat"}', '{"type":"chat","t":"a\tb"}', '{"type":"chat","t":"\0"}', r'{"type":"chat","t":"\x41"}')
row("JSON that is no object", "error bad_message", "[]", "null", "1", '"chat"', "true", '[{"type":"chat"}]')
row("two messages in one", "error bad_json", '{"type":"chat"}{"type":"chat"}', '{"type":"chat"}\n{"type":"chat"}')
row("room and to at once", "error bad_message", '{"type":"chat","room":"demo:messages","to":"u_1"}')
row("resume: names twice, too many, no names", "error bad_message", '{"type":"resume","rooms":{"demo:a":{},"demo:a":{}}}',
    r'{"type":"resume","rooms":{"demo:a":{},"demo:\u0061":{}}}', compact({"type": "resume", "rooms": {f"d{n}": {} for n in range(1001)}}),
    '{"type":"resume","rooms":[]}', '{"type":"resume","rooms":{"a b":{}}}', '{"type":"resume","rooms":{"demo:a":{"seq":1}}}',
    '{"type":"resume","rooms":{"demo:a":{"epoch":"' + "e" * 65 + '","seq":1}}}', full=True)
row("since: beyond, negative, strange", "error bad_message", '{"type":"join","room":"demo:a","since":{"epoch":"x","seq":-1}}',
    '{"type":"join","room":"demo:a","since":{"epoch":"","seq":1}}', '{"type":"join","room":"demo:a","since":"x.1"}',
    '{"type":"join","room":"demo:a","rewind":1e9}', '{"type":"join","room":"demo:a","rewind":1001}', full=True)


@ATTACKS.row("what a careless reader would merge arrives as it was sent", "as it was sent")
def _(stage):
    """The payload is passed on as text: no reader of ours sets a prototype on the way."""
    body = r'"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}},"n":1e999,"s":"\u003cscript\u003e","big":12345678901234567890'
    with stage.client(ROOM) as listener, stage.client(ROOM) as speaker:
        speaker.write('{"type":"pollute",' + body + "}")
        while True:
            got = listener.peer.message()
            if isinstance(got, str):
                return got
            if b'"pollute"' in got[1]:
                return "as it was sent" if body.encode() in got[1] else got[1].decode()


# --- Schemas as a lever.
SCHEMAS = World("schemas", """
[[room]]
match = "demo:schema"
other_types = false
[room.types.backtrack]
schema = { type = "object", properties = { t = { type = "string", pattern = "^(a+)+$" } }, additionalProperties = false }
[room.types.unique]
schema = { type = "object", properties = { list = { type = "array", uniqueItems = true } } }
[room.types.number]
schema = { type = "object", properties = { n = { type = "integer", minimum = 0, maximum = 10 } }, required = ["n"] }
""")


def schema(name, want, *messages):
    def run(stage):
        with stage.client("/ws/demo:schema") as client:
            found = set()
            for message in messages:
                client.ref += 1
                client.write(message[:-1] + f',"ref":{client.ref}}}')
                found.add(outcome(client.answer(client.ref)))
            return " / ".join(sorted(found))

    ATTACKS.add(name, want, run, world=SCHEMAS)


schema("a pattern that would backtrack for ever", "error invalid_payload", '{"type":"backtrack","t":"' + "a" * 50_000 + '!"}')
schema("60,000 elements that must differ", "error invalid_payload", compact({"type": "unique", "list": [*range(9_000), 5]}))
schema("numbers that parsers read differently", "error invalid_payload", '{"type":"number","n":1e400}', '{"type":"number","n":18446744073709551617}',
       '{"type":"number","n":11}', '{"type":"number","n":-0.5}', '{"type":"number","n":"1"}')
schema("payload with a field twice, which check and reader could read differently", "error bad_message",
       '{"type":"number","n":1,"n":11}', r'{"type":"number","n":1,"\u006e":11}')
schema("types that the room does not have", "error forbidden", '{"type":"chat"}', '{"type":"__proto__"}', '{"type":"Number"}', '{"type":"number "}')
