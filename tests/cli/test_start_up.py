"""What a command imports before it does anything: how fast that is, benchmarks/cli_startup.py measures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command import environment

_SAMPLE = Path(__file__).parents[2] / "crds" / "samples" / "policy-basic.yaml"
_SCRIPT = """
import json, sys
from registry_cleanup.__main__ import main
try:
    main(sys.argv[1:], prog_name="registry-cleanup")
finally:
    sys.stderr.write(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""
_CLIENTS = {"kubernetes", "httpx", "aiohttp", "kopf", "yarl", "stamina", "prometheus_client"}
_ALL = _CLIENTS | {"rich", "pydantic", "pydantic_settings", "yaml", "re2", "cronsim"}


def _imported(home: Path, *arguments: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, *arguments],
        capture_output=True,
        text=True,
        check=True,
        stdin=subprocess.DEVNULL,
        env=environment(home),
    )
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize(
    "arguments", [["--help"], *([command, "--help"] for command in ("plan", "validate", "test", "in-use"))]
)
def test_help_imports_nothing_that_works(arguments: list[str], tmp_path: Path) -> None:
    imported = _imported(tmp_path, *arguments)
    assert "click" in imported
    assert imported & _ALL == set()


@pytest.mark.parametrize(
    "arguments",
    [["validate", str(_SAMPLE)], ["test", str(_SAMPLE), "--tags", "build-1,latest"]],
    ids=lambda each: each[0],
)
def test_a_look_at_a_file_imports_no_client_of_anything(arguments: list[str], tmp_path: Path) -> None:
    imported = _imported(tmp_path, *arguments)
    assert {"yaml", "pydantic", "re2"} <= imported
    assert imported & (_CLIENTS | {"rich", "pydantic_settings"}) == set()
