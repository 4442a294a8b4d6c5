"""The SQL files travel in the wheel and are found there, as they are in a checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

from bms_ingest.sql import sql_directory

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import json
from bms_ingest.sql import load_queries, sql_directory
print(json.dumps([str(sql_directory()), sorted(load_queries("migrations"))]))
"""


def test_checkout_uses_the_files_beside_the_package() -> None:
    assert sql_directory() == ROOT / "sql"


def test_wheel_holds_the_files_and_finds_them(tmp_path: Path) -> None:
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
    ]
    environment = os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    subprocess.run([*build, "--wheel-dir", str(tmp_path), str(ROOT)], check=True, env=environment)
    (wheel,) = tmp_path.glob("bms_ingest-*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    shipped = {path.relative_to(ROOT / "sql") for path in (ROOT / "sql").rglob("*.sql")}
    assert {path.relative_to(site / "bms_ingest/sql") for path in site.rglob("*.sql")} == shipped
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
    )
    directory, names = json.loads(done.stdout)
    assert Path(directory) == (site / "bms_ingest/sql").resolve()
    assert "note_migration" in names
