"""Makes commands of functions: a Session, shared groups of options, an exit status for each failure."""

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import MISSING, fields, is_dataclass, replace
from typing import Any, TypeVar, get_type_hints

import typer

from nwctl.error import NwctlError
from nwctl.option import Invocation
from nwctl.output import Output
from nwctl.session import Session

Function = TypeVar("Function", bound=Callable[..., None])


def noun(name: str, help_text: str) -> typer.Typer:
    """A group of commands on one kind of resource."""
    return typer.Typer(name=name, help=help_text, no_args_is_help=True)


def command(app: typer.Typer, name: str) -> Callable[[Function], Function]:
    """Registers a function that takes a Session first; parameters typed as option groups become their options."""

    def register(function: Function) -> Function:
        app.command(name)(bound(function))
        return function

    return register


def bound(function: Callable[..., None]) -> Callable[..., None]:
    """The function as Typer needs it: every option a parameter of its own, failures turned into exit statuses."""
    own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
    groups: dict[str, Any] = {item.name: item.annotation for item in own if is_dataclass(item.annotation)}
    groups["invocation"] = Invocation

    @functools.wraps(function)
    def run(call: typer.Context, **values: Any) -> None:
        taken = {name: take(group, values) for name, group in groups.items()}
        session = Session.open(merged(call.obj, taken.pop("invocation")))
        with exit_statuses(session.output):
            function(session, **taken, **values)

    plain = [item for item in own if item.name not in groups]
    present(run, [*plain, *(item for group in groups.values() for item in parameters(group))])
    return run


def present(wrapper: Callable[..., None], options: list[inspect.Parameter]) -> None:
    """Makes Typer see the call's context and these options as the wrapper's parameters."""
    call = inspect.Parameter("call", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    signature = inspect.Signature([call, *(option.replace(kind=call.kind) for option in options)])
    wrapper.__signature__ = signature  # type: ignore[attr-defined]


def before_noun(app: typer.Typer) -> Callable[[Function], Function]:
    """Lets the options of every command be given before the noun, too; the function adds options of its own."""

    def register(function: Function) -> Function:
        @functools.wraps(function)
        def remember(call: typer.Context, **values: Any) -> None:
            call.obj = take(Invocation, values)
            function(**values)

        own = inspect.signature(function, eval_str=True).parameters.values()
        present(remember, [*own, *parameters(Invocation)])
        app.callback()(remember)
        return function

    return register


def parameters(group: Any) -> list[inspect.Parameter]:
    """The fields of an option group as parameters of a function."""
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            item.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if item.default is MISSING else item.default,
            annotation=hints[item.name],
        )
        for item in fields(group)
    ]


def take(group: Any, values: dict[str, Any]) -> Any:
    """The option group filled from `values`, which loses what it gives."""
    return group(**{item.name: values.pop(item.name) for item in fields(group)})


def merged(before_noun: Invocation | None, after_noun: Invocation) -> Invocation:
    """The shared options wherever they were given, before the noun or after the verb; the later ones win."""
    given = {item.name: value for item in fields(Invocation) if (value := getattr(after_noun, item.name))}
    return replace(before_noun or Invocation(), **given)


@contextmanager
def exit_statuses(output: Output) -> Iterator[None]:
    """Turns an expected failure into its message on standard error and its exit status."""
    try:
        yield
    except NwctlError as error:
        output.error(error)
        raise typer.Exit(error.exit_status) from None
