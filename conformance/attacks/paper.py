"""The table of attacks in SECURITY.md: written from the rows, and compared with them."""

from itertools import groupby

from rig.servers import ROOT

DOCUMENT = ROOT / "SECURITY.md"
START, END = "<!-- attacks -->", "<!-- end of attacks -->"


def table(attacks):
    """The section between the marks."""
    present = [attack for attack in attacks if not attack.missing]
    missing = [attack for attack in attacks if attack.missing]
    lines = [f"{len(present)} attacks. MiB is by how much the memory of the server may grow at its highest while the row is played.", ""]
    for category, rows in groupby(present, lambda attack: attack.category):
        lines += [f"**{category}**", "", "| attack | what must come of it | MiB |", "|---|---|---:|"]
        lines += [f"| {cell(attack.name)} | {' or '.join(map(cell, attack.want))} | {attack.ceiling} |" for attack in rows]
        lines.append("")
    if missing:
        lines += ["**Not played yet**, as the server lacks what they are for:", ""]
        lines += [f"- {cell(attack.category)}: {cell(attack.name)} ({attack.needs})" for attack in missing] + [""]
    return "\n".join(lines).strip()


def cell(text):
    """Text in a cell: no bars, no markup, nothing invisible."""
    shown = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
    return "".join("\\" + c if c in "|*_<>`[]\\" else c for c in shown)


def difference(attacks):
    """What is wrong with the table, or nothing."""
    content = DOCUMENT.read_text()
    if START not in content or END not in content:
        return f"there is no {START} … {END}"
    found = content.split(START, 1)[1].split(END, 1)[0].strip().splitlines()
    wanted = table(attacks).splitlines()
    if found == wanted:
        return ""
    more, less = [line for line in wanted if line not in found], [line for line in found if line not in wanted]
    return "conformance/attack --write brings it up to date; missing there:\n  " + "\n  ".join(more[:10]) + "\nand no more:\n  " + "\n  ".join(less[:10])


def write(attacks):
    content = DOCUMENT.read_text()
    before, rest = content.split(START, 1)
    DOCUMENT.write_text(f"{before}{START}\n{table(attacks)}\n{END}{rest.split(END, 1)[1]}")
    print(f"{len(attacks)} attacks written")
