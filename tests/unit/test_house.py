"""The documents tell the truth about names: links, make targets, commands, settings, metrics, log events."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from bms_ingest.cli import app
from bms_ingest.metrics import Metrics
from bms_ingest.settings import Settings
from bms_ingest.settings_tree import CONFIG_VARIABLE, variable, walk

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
OPERATIONS = ROOT / "docs" / "operations.md"

_CODE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
_FILE = re.compile(r"(?:[\w.-]+/)*(?:[\w-]+\.(?:py|sql|md|conf|txt)|[\w.-]+/)")
_METRIC = re.compile(r"\bbms_ingest_[a-z0-9_]+")
_SUFFIX = re.compile(r"_(total|bucket|sum|count|created)$")
_VARIABLE = re.compile(r"\bBMS_INGEST_[A-Z0-9_]+\b")


def code(document: Path) -> Iterator[str]:
    """Yield what a document shows as code: indented or fenced lines, and words in backticks."""
    fenced = False
    for line in document.read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            yield line.strip()
        else:
            yield from _CODE.findall(line)


def command_lines(document: Path, program: str) -> Iterator[list[str]]:
    """Yield the words behind a program's name in a document's code, up to a pipe or a comment."""
    for line in code(document):
        found = re.search(rf"(?:^|[\s/;&]){program} (?P<rest>.+)", line)
        if found:
            yield shlex.split(re.split(r" #|[|;&>]| {2,}", found["rest"])[0])


def families() -> set[str]:
    """Return the names of all exported metrics, without the suffixes of counters and histograms."""
    return {family.name for family in Metrics().registry.collect()}


@pytest.fixture(params=DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def document(request: pytest.FixtureRequest) -> Path:
    """Each document in turn."""
    path = request.param
    assert isinstance(path, Path)
    return path


def test_relative_links_lead_somewhere(document: Path) -> None:
    targets = [
        target for target in _LINK.findall(document.read_text(encoding="utf-8")) if "://" not in target
    ]
    assert [target for target in targets if not (document.parent / target).exists()] == []


def test_files_named_in_documents_exist(document: Path) -> None:
    named = {word for word in code(document) if _FILE.fullmatch(word) and "NNNN" not in word}
    places = (ROOT, ROOT / "bms_ingest", document.parent)
    inside = {path.name for folder in ("bms_ingest", "tests") for path in (ROOT / folder).rglob("*.py")}
    lost = {word for word in named if not any((place / word).exists() for place in places)}
    assert lost - inside == set()


def test_make_targets_named_in_documents_exist(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {
        word for words in command_lines(document, "make") for word in words if re.fullmatch("[a-z-]+", word)
    }
    assert named - targets == set()


def test_commands_named_in_documents_exist(document: Path) -> None:
    wrong = []
    for words in command_lines(document, "bms-ingest"):
        command: Any = typer.main.get_command(app)
        for word in words:
            options = {spelling for parameter in command.params for spelling in parameter.opts} | {"--help"}
            commands: dict[str, Any] = getattr(command, "commands", {})
            if word.startswith("--"):
                wrong += [words] if word not in options else []
            elif word in commands:
                command = commands[word]
            elif commands and not re.search("[^a-z]", word):
                wrong.append(words)
    assert wrong == []


def test_settings_named_in_documents_exist(document: Path) -> None:
    known = {variable(setting.path) for setting in walk(Settings)} | {CONFIG_VARIABLE}
    known |= {name.replace("__*__", "__BATTERY_VOLTAGE__") for name in known}
    named = {
        name for name in _VARIABLE.findall(document.read_text(encoding="utf-8")) if not name.endswith("_")
    }
    assert named - known == set()


def test_metrics_named_in_documents_exist(document: Path) -> None:
    named = {_SUFFIX.sub("", name) for name in _METRIC.findall(document.read_text(encoding="utf-8"))}
    assert {name for name in named if not name.endswith("_")} - families() == set()


def test_operations_explain_every_metric() -> None:
    explained = {_SUFFIX.sub("", name) for name in _METRIC.findall(OPERATIONS.read_text(encoding="utf-8"))}
    assert families() - explained == set()


def complaints(module: Path) -> Iterator[str]:
    """Yield the events that a module logs above information, by a method or a variable that holds one."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    levels = {"warning", "error", "exception", "critical"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            methods = {part.attr for part in ast.walk(node.value) if isinstance(part, ast.Attribute)}
            levels |= {node.targets[0].id} if methods & levels else set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            event = node.args[0].value
            if name in levels and isinstance(event, str):
                yield event


def test_operations_explain_every_log_event_that_is_not_information() -> None:
    events = {event for module in (ROOT / "bms_ingest").rglob("*.py") for event in complaints(module)}
    assert {"write_waits", "task_crashed", "drain_deadline_passed"} <= events
    assert events - set(_CODE.findall(OPERATIONS.read_text(encoding="utf-8"))) == set()


def test_pins_hold_hashes_and_no_address() -> None:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert "://" not in text
    pins = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert [pin for pin in pins if "==" not in pin or "--hash=sha256:" not in pin] == []
