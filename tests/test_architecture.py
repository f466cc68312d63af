"""What holds the shape: the direction of imports, the package list, the names, and the documents' completeness."""

import argparse
import ast
import configparser
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from darkroom.events.codec import TAGS
from darkroom.events.facts import EVENT_TYPES
from darkroom.events.json_lines import parse_line

ROOT = Path(__file__).parents[1]
LAYERS = ("events", "projections", "actors", "gateway")  # each may import itself and those before it
PRODUCT = sorted(path for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))
OURS = PRODUCT + sorted(
    path
    for folder in ("tests", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
    if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)  # what a benchmark has installed
)
VAGUE = {"utils", "util", "common", "helpers", "helper", "base", "manager", "managers", "misc"}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported(path: Path) -> Iterator[str]:
    """The dotted names that a file imports, anywhere in it; a relative import begins with its dots."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = "." * node.level + (node.module or "")
            yield from (f"{source}.{alias.name}" for alias in node.names)


def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def setup_lines(section: str, key: str) -> list[str]:
    return setup()[section][key].split()


def folder_of(package: str) -> Path:
    return ROOT / Path(*package.split(".")[1:])


def test_imports_point_one_way() -> None:
    faults = []
    for path in PRODUCT:
        layer = path.relative_to(ROOT).parts[0]
        for name in imported(path):
            top, _, rest = name.partition(".")
            others = LAYERS[LAYERS.index(layer) + 1 :]
            if not top or (top == "darkroom" and rest.split(".")[0] in others):
                faults.append(f"{name_of(path)} imports {name}")
    assert not faults


def test_only_actors_import_ray() -> None:
    others = [path for path in PRODUCT if not path.is_relative_to(ROOT / "actors")]
    assert not [name_of(path) for path in others if "ray" in {name.split(".")[0] for name in imported(path)}]


def test_nothing_is_imported_by_its_folders_bare_name() -> None:
    # From the root `import events.facts` works too, and gives another class than `darkroom.events.facts`.
    assert not [name_of(path) for path in OURS if set(LAYERS) & {name.split(".")[0] for name in imported(path)}]


def test_every_module_says_what_it_owns() -> None:
    assert not [name_of(path) for path in PRODUCT if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))]


def test_no_name_is_vague() -> None:
    assert not [name_of(path) for path in OURS if VAGUE & set(path.relative_to(ROOT).with_suffix("").parts)]


def test_the_package_list_is_the_tree() -> None:
    folders = {path.parent for path in PRODUCT}
    assert {folder_of(package) for package in setup_lines("options", "packages")} == folders
    for folder in folders:
        assert (folder / "__init__.py").exists(), f"{name_of(folder)} has no __init__.py"
    for layer in LAYERS:
        assert f"darkroom.{layer} = {layer}" in setup()["options"]["package_dir"]
        assert (ROOT / layer / "py.typed").exists()


def test_every_file_beside_the_code_is_in_the_package() -> None:
    patterns = setup_lines("options.package_data", "*")
    patterns = [pattern.rstrip(",") for pattern in patterns]
    packed = {
        path
        for package in setup_lines("options", "packages")
        for pattern in patterns
        for path in folder_of(package).glob(pattern)
    }
    files = {path for layer in LAYERS for path in (ROOT / layer).rglob("*") if path.is_file()}
    missed = {name_of(path) for path in files - packed if path.suffix not in (".py", ".pyc")}
    assert not missed, "setup.cfg's package_data does not reach these"


def test_type_checkers_find_every_folder() -> None:
    links = {link.name: link.resolve() for link in (ROOT / ".typing/darkroom").iterdir()}
    assert links == {layer: ROOT / layer for layer in LAYERS}


def pins(text: str) -> dict[str, str]:
    return dict(re.findall(r"^([A-Za-z0-9_.-]+)==(\S+)$", text, re.MULTILINE))


def required() -> dict[str, str]:
    wanted = setup_lines("options", "install_requires")
    wanted += [line for extra in ("servers", "test") for line in setup_lines("options.extras_require", extra)]
    pinned = pins("\n".join(wanted))
    assert len(pinned) == len(wanted), "every requirement is pinned"
    return pinned


def test_the_constraints_agree_with_the_requirements() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    constrained = {name.lower(): version for name, version in pins(lines).items()}
    assert required().items() == {(name, constrained.get(name.lower())) for name in required()}


def test_every_dependency_is_documented() -> None:
    text = (ROOT / "docs/dependencies.md").read_text(encoding="utf-8")
    assert not [name for name in required() if f"| {name} |" not in text]


def commands(parser: argparse.ArgumentParser, prefix: str = "") -> dict[str, argparse.ArgumentParser]:
    """The parsers of the commands that do something, by their words: `log append`, not `log`."""
    nested = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not nested:
        return {prefix.strip(): parser}
    found: dict[str, argparse.ArgumentParser] = {}
    for word, child in nested[0].choices.items():
        found |= commands(child, f"{prefix} {word}")
    return found


def test_every_command_and_option_is_documented_and_no_other() -> None:
    text = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    table = text.split("## Commands")[1].split("```")[0]
    parsers = commands(import_module("darkroom.gateway.main").build_parser())
    documented = re.findall(r"^\| `([a-z][a-z -]*[a-z])", table, re.MULTILINE)
    assert sorted(documented) == sorted(parsers)
    for command, parser in parsers.items():
        for action in parser._actions:
            for option in action.option_strings:
                assert option in ("-h", "--help") or option in table, f"{command} {option}"


def test_every_setting_is_documented() -> None:
    text = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    for name in import_module("darkroom.gateway.settings").KEYS:
        assert f"| `{name}` |" in text


def test_every_event_is_documented_with_its_tag_and_fields() -> None:
    text = (ROOT / "docs/events.md").read_text(encoding="utf-8")
    for kind, tag in TAGS.items():
        row = next(line for line in text.splitlines() if line.startswith(f"| {tag} | `{kind.__name__}` |"))
        fields = [field for field in kind.__struct_fields__ if field not in ("schema", "carried")]
        assert [field for field in re.findall(r"`(\w+)`", row)[1:] if field in fields] == fields


def test_the_documented_json_lines_are_events_of_every_type() -> None:
    text = (ROOT / "docs/events.md").read_text(encoding="utf-8")
    lines = text.split("```json\n")[1].split("```")[0].splitlines()
    events = [parse_line(line.encode())[1] for line in lines]
    assert {type(event) for event in events} == set(EVENT_TYPES)
    assert not [event for event in events if event.carried], "each field is one that the type has"


def test_documents_link_to_what_exists() -> None:
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    links = [
        (document, link)
        for document in documents
        for link in re.findall(r"\]\(([^)#]+)", document.read_text(encoding="utf-8"))
        if not link.startswith("http")
    ]
    assert not [(name_of(document), link) for document, link in links if not (document.parent / link).exists()]
