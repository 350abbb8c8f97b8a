"""Tables, and the sections of docs/conformance.md."""

from rig.servers import ROOT

DOCUMENT = ROOT / "docs" / "conformance.md"

HEAD = """# Conformance

What throng was tested against, and what came of it. Each section is written by the command it names.
"""


def table(head, rows):
    """A Markdown table whose columns line up in a terminal as well."""
    rows = [[str(cell) for cell in row] for row in rows]
    widths = [max([len(head[i]), *(len(row[i]) for row in rows)]) for i in range(len(head))]

    def line(cells):
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths)) + " |"

    return "\n".join([line(head), "|" + "|".join("-" * (width + 2) for width in widths) + "|", *map(line, rows)])


def write_section(name, body):
    """Replaces the section `name` of docs/conformance.md, or adds it at the end."""
    start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    section = f"{start}\n{body.strip()}\n{end}"
    content = DOCUMENT.read_text() if DOCUMENT.exists() else HEAD
    if start in content:
        before, rest = content.split(start, 1)
        content = before + section + rest.split(end, 1)[1]
    else:
        content = content.rstrip() + "\n\n" + section + "\n"
    DOCUMENT.parent.mkdir(exist_ok=True)
    DOCUMENT.write_text(content)
    print(f"written: {DOCUMENT.relative_to(ROOT)}")
