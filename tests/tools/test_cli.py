"""The command ``codesign``."""

from __future__ import annotations

import json

from codesign_tools.cli import app
from typer.testing import CliRunner

from codesign import measure, processor


def run(*words: str) -> str:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 0, done.output
    return done.stdout


def test_machine_says_what_measurements_say():
    assert run("machine") == f"{measure.machine()}\n"


def test_machine_gives_its_fields_as_json():
    facts = json.loads(run("machine", "--json"))
    assert facts == measure.machine_facts()
    assert facts["name"] == processor.this().name
    assert set(facts) == {"name", "model", "instruction_sets", "cores", "threads", "torch"}
