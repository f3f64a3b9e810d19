"""``codesign``: the course's tools for one's own work."""

from __future__ import annotations

import typer

app = typer.Typer(help="Tools of the course.", add_completion=False, no_args_is_help=True)


@app.callback()
def _tools() -> None:
    """Tools of the course, for your own models and machines."""


@app.command()
def machine() -> None:
    """Describe this machine as measurements do: processor, instruction sets, threads."""
    from codesign import measure

    print(measure.machine())


if __name__ == "__main__":
    app()
