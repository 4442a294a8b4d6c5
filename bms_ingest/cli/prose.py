"""Makes docstrings into help: paragraphs are filled to the width, those that start with \\b are kept.

typer joins the lines of the first paragraph only, so that all others would break where the source breaks.
"""

from __future__ import annotations

import inspect

import typer

AS_IT_IS = "\b\n"


def fill_help(app: typer.Typer) -> None:
    """Give every command of an app, and of the groups in it, the help of its function's docstring."""
    if app.registered_callback is not None and app.registered_callback.callback is not None:
        app.registered_callback.help = filled(inspect.getdoc(app.registered_callback.callback) or "")
    for command in app.registered_commands:
        if command.callback is not None:
            command.help = filled(inspect.getdoc(command.callback) or "")
    for group in app.registered_groups:
        if group.typer_instance is not None:
            fill_help(group.typer_instance)


def filled(docstring: str) -> str:
    """Join the lines of each paragraph, except of those that start with a line of \\b."""
    return "\n\n".join(
        paragraph.removeprefix(AS_IT_IS)
        if paragraph.startswith(AS_IT_IS)
        else " ".join(paragraph.split("\n"))
        for paragraph in docstring.split("\n\n")
    )
