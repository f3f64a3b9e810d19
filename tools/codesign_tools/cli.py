"""Command line ``codesign``: the course's tools for one's own models and machines."""

from __future__ import annotations

import json
from typing import Annotated

import typer

app = typer.Typer(help="Tools of the course.", add_completion=False, no_args_is_help=True)


@app.callback()
def _tools() -> None:
    """Tools of the course, for your own models and machines."""


@app.command()
def machine(
    fields: Annotated[bool, typer.Option("--json", help="One JSON object of all fields.")] = False,
) -> None:
    """Describe this machine as measurements do: processor, instruction sets, cores, threads."""
    from codesign import measure

    print(json.dumps(measure.machine_facts()) if fields else measure.machine())


if __name__ == "__main__":
    app()
