"""Where the endpoint and the credentials come from: options before environment before the configuration file.

The file, `$XDG_CONFIG_HOME/nodewright/nwctl.toml`, has one table a context, and mode 0600 because it holds tokens.
"""

import json
import os
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Self

from nwctl.error import UsageError

DEFAULT_CONTEXT = "default"


@dataclass(frozen=True)
class Settings:
    """How one call of nwctl reaches a coordinator; an empty string means "not set"."""

    endpoint: str = ""
    token: str = field(default="", repr=False)
    ca_file: str = ""
    region: str = ""
    lang: str = ""

    def overlaid(self, values: Mapping[str, str | None]) -> Self:
        """These settings with every non-empty value of `values` taking precedence."""
        known = {item.name for item in fields(self)}
        return replace(self, **{name: value for name, value in values.items() if name in known and value})


@dataclass(frozen=True)
class ConfigFile:
    """The parsed configuration file; `save` replaces it atomically."""

    path: Path
    current: str = DEFAULT_CONTEXT
    contexts: Mapping[str, Settings] = field(default_factory=dict)

    @classmethod
    def load(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Reads the file, or an empty one where none exists; refuses a token that others can read."""
        path = config_path(environment)
        try:
            document = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return cls(path)
        except (OSError, ValueError) as error:
            raise UsageError(f"cannot read {path}: {error}") from error
        contexts = {name: Settings().overlaid(table) for name, table in document.get("contexts", {}).items()}
        if any(context.token for context in contexts.values()):
            refuse_shared(path)
        return cls(path, document.get("current", DEFAULT_CONTEXT), contexts)

    def with_context(self, name: str, settings: Settings) -> Self:
        """This file with `settings` stored under `name`, which becomes the current context."""
        return replace(self, current=name, contexts={**self.contexts, name: settings})

    def save(self) -> None:
        """Writes the file with mode 0600 before it holds a byte, and renames it into place."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(self.to_toml())
        draft.replace(self.path)

    def to_toml(self) -> str:
        """The file's text; a JSON string is also a TOML basic string."""
        lines = [f"current = {json.dumps(self.current, ensure_ascii=False)}"]
        for name, settings in self.contexts.items():
            lines += ["", f"[contexts.{json.dumps(name, ensure_ascii=False)}]"]
            values = asdict(settings).items()
            lines += [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values if value]
        return "\n".join(lines) + "\n"


def config_path(environment: Mapping[str, str]) -> Path:
    """Where the XDG base directory specification puts the file."""
    base = environment.get("XDG_CONFIG_HOME") or Path(environment.get("HOME", "~"), ".config").expanduser()
    return Path(base, "nodewright", "nwctl.toml")


def refuse_shared(path: Path) -> None:
    """Fails where other accounts of this machine could read the tokens in `path`."""
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise UsageError(f"{path} holds a token and others can read it: chmod 600 {path}")


def environment_values(environment: Mapping[str, str]) -> dict[str, str]:
    """The settings that NWCTL_ENDPOINT, NWCTL_TOKEN, NWCTL_CA_FILE, NWCTL_REGION and NWCTL_LANG give."""
    return {item.name: environment.get(f"NWCTL_{item.name.upper()}", "") for item in fields(Settings)}


def language_of(environment: Mapping[str, str]) -> str:
    """The language of the coordinator's messages that the locale asks for: `zh` or `en`."""
    locale = environment.get("LC_ALL") or environment.get("LC_MESSAGES") or environment.get("LANG") or ""
    return "zh" if locale.lower().startswith("zh") else "en"


def resolve(options: Mapping[str, str | None], environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings in force; a `context` among the options is taken as it is stored, whatever the environment says."""
    file = ConfigFile.load(environment)
    asked = options.get("context")
    stored = file.contexts.get(asked or environment.get("NWCTL_CONTEXT") or file.current, Settings())
    settings = stored if asked else stored.overlaid(environment_values(environment))
    return Settings(lang=language_of(environment)).overlaid(asdict(settings)).overlaid(options)


def unstored(options: Mapping[str, str | None], environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings that options and environment give on their own."""
    return Settings().overlaid(environment_values(environment)).overlaid(options)
