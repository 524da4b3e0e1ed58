"""Pages of the documentation: what they link to and name is there, and each decision has a status."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest
from cells import each_cell

from edge_extproc import errors
from edge_extproc.errors import EdgeError
from edge_extproc.exchange.envoy_faults import CODES

ROOT = Path(__file__).resolve().parents[3]
RECORDS = sorted((ROOT / "docs" / "adr").glob("[0-9]*.md"))
ARCHITECTURE = ROOT / "docs" / "contributing" / "architecture.md"
FILES = frozenset(
    subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
)
PAGES = sorted(name for name in FILES if name.endswith(".md") and not name.startswith(("changelog.d/", "tests/")))
STATUS = re.compile(r"\*\*Status\.\*\* (?:Accepted|(Superseded|Amended) by (.+))\.")


@each_cell("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    path = ROOT / page
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text("utf-8"))
    broken = [link for link in links if "://" not in link and not (path.parent / link).exists()]

    assert [] == broken


@each_cell("page", PAGES)
def test_modules_that_are_named_exist(page: str) -> None:
    """`NAME` in a path stands for any name. A page may have its reader save a file."""
    text = (ROOT / page).read_text("utf-8")
    named = set(re.findall(r"(?<![\w/*<>-])[A-Za-z_][\w/]*\.py\b", text))
    named -= set(re.findall(r"Save this as `([\w.]+)`", text))
    missing = [
        name
        for name in sorted(named)
        if "NAME" not in name and not any(file == name or file.endswith("/" + name) for file in FILES)
    ]

    assert [] == missing


@pytest.mark.parametrize("record", RECORDS, ids=lambda path: path.name)
def test_a_decision_has_a_number_a_title_and_a_status(record: Path) -> None:
    title, empty, status, *_ = record.read_text("utf-8").splitlines()
    found = STATUS.fullmatch(status)

    assert title.startswith(f"# {record.name[:3]}: ")
    assert "" == empty
    assert found is not None, status
    numbers = re.findall(r"\[(\d{3})\]", found.group(2) or "")
    assert bool(numbers) == (found.group(1) is not None)
    assert record.name[:3] not in numbers
    assert set(numbers) <= {other.name[:3] for other in RECORDS}


def test_a_number_of_a_decision_is_used_once() -> None:
    numbers = [record.name[:3] for record in RECORDS]

    assert sorted(set(numbers)) == numbers


def _names(path: Path) -> set[str]:
    """Functions and classes of a module, and `Class.method`."""
    found = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                found.add(name)
            case ast.ClassDef(name=name, body=body):
                found.add(name)
                found |= {f"{name}.{n.name}" for n in body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                found.add(name)
            case _:
                pass
    return found


def test_each_hop_of_the_architecture_exists() -> None:
    """The page names them as `path.py:name` or `path.py:Class.method`, below the package."""
    hops = re.findall(r"`([\w/]+\.py):([\w.]+)`", ARCHITECTURE.read_text("utf-8"))
    missing = [
        f"{path}:{name}"
        for path, name in hops
        if not (ROOT / "edge_extproc" / path).exists() or name not in _names(ROOT / "edge_extproc" / path)
    ]

    assert len(hops) > 40
    assert [] == missing


def test_the_index_has_each_page() -> None:
    text = (ROOT / "docs" / "README.md").read_text("utf-8")
    pages = [
        name for name in PAGES if name.startswith("docs/") and not name.startswith(("docs/adr/", "docs/translation/"))
    ]

    assert [] == [name for name in pages if name != "docs/README.md" and f"({name.removeprefix('docs/')})" not in text]


def test_troubleshooting_has_each_code_that_a_caller_can_get() -> None:
    """And no other one. Those of ConfigError and StartError never reach a caller."""
    text = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
    table = text.partition("| code | status |")[2].partition("\n\n")[0]
    told = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    classes = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, EdgeError)]
    never_told = (errors.ConfigError, errors.StartError)
    made = {c.code for c in classes if c.code is not None and not issubclass(c, never_told)}

    assert sorted(made | CODES | {"internal"}) == sorted(told)


def test_the_index_of_decisions_has_each_with_its_title_and_status() -> None:
    wanted = []
    for record in RECORDS:
        title, _, status, *_ = record.read_text("utf-8").splitlines()
        said = status.removeprefix("**Status.** ").rstrip(".")
        wanted.append(f"| [{record.name[:3]}]({record.name}) | {title.partition(': ')[2]} | {said} |")

    found = (ROOT / "docs" / "adr" / "README.md").read_text("utf-8").splitlines()
    assert wanted == [line for line in found if line.startswith("| [")]


def test_the_site_has_each_page_in_its_menu() -> None:
    """`make site` builds it strictly; this holds that no page was forgotten."""
    menu = (ROOT / "mkdocs.yml").read_text("utf-8").partition("\nnav:\n")[2]
    named = set(re.findall(r"[\w./-]+\.md", menu))
    pages = {
        name
        for name in PAGES
        if re.match(r"docs/[^/]+\.md|docs/(?:contributing|guides|tutorials)/|[A-Z]+\.md|(?:envoy|istio)/README", name)
    }

    assert sorted(pages) == sorted(
        name for name in named if name not in ("docs/translation/README.md", "docs/adr/README.md")
    )
