"""Secrets come from a terminal unseen or from standard input, never from the command line or the screen."""

import sys

import typer

from nwctl.error import UsageError


def read_secret(prompt: str, *, confirm: bool = False) -> str:
    """What is typed at a terminal, unseen, or else the first line of standard input."""
    if sys.stdin.isatty():
        return str(typer.prompt(prompt, hide_input=True, confirmation_prompt=confirm, err=True))
    value = sys.stdin.readline().rstrip("\r\n")
    if not value:
        raise UsageError(f"{prompt.lower()} expected on standard input")
    return value
