"""Settings in effect, each with where it comes from.

Precedence: flag, then environment (`PYFLARE_*`), then `--config FILE` or
`./pyflare.yaml`, then `pyflare.yaml` in the user's configuration directory, then the
default. `${NAME}` inside a file is taken from the environment; `$${` stands for `${`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar, cast

from pyflare_cli.declarations import (
    COLLECTOR_SECTIONS,
    Format,
    Setting,
    all_settings,
    setting,
)
from pyflare_cli.values import convert, expected, field_types, parse_text
from pyflare_proto.errors import ConfigError, nearest

if TYPE_CHECKING:
    from pyflare_collector.config import CollectorConfig
    from pyflare_storage.webhooks import Webhook

ConfigT = TypeVar("ConfigT")

__all__ = ["MASK", "Settings", "Value", "check_file", "masked", "user_config_file"]

PROJECT_FILE = "pyflare.yaml"
MASK = "********"
_DATA_ALIAS = "storage.parquet.directory"
_VARIABLE = re.compile(r"\$(\$\{|\{([A-Za-z_][A-Za-z0-9_]*)\}|\{)")
_URL_PASSWORD = re.compile(r"(?<=://)([^/@:\s]*):[^/@\s]*@")


class Value(NamedTuple):
    """A value and where it comes from."""

    value: object
    """Of the setting's type; None where the default is decided later."""
    source: str
    """`flag --data`, `environment PYFLARE_DATA`, `file pyflare.yaml`, `default`."""


class Settings:
    """All settings of one run."""

    def __init__(self, values: Mapping[str, Value], files: Sequence[Path] = ()) -> None:
        self._values = dict(values)
        self.files = tuple(files)
        """Configuration files in effect, the nearer first."""

    @classmethod
    def load(
        cls,
        flags: Mapping[str, object] | None = None,
        *,
        config: Path | None = None,
        environ: Mapping[str, str] | None = None,
        directory: Path | None = None,
        user_file: Path | None = None,
    ) -> Settings:
        """Gather the settings.

        Args:
            flags: values given on the command line by setting name; None means not given.
            config: file of `--config`; must exist.
            environ: the environment, `os.environ` by default.
            directory: where `pyflare.yaml` is looked for, the working directory by default.
            user_file: the user's file; that of the platform by default.

        Raises:
            ConfigError: an unknown key or variable, or a value that does not fit.
        """
        environ = os.environ if environ is None else environ
        files = list(_files(config, environ, directory or Path(), user_file))
        layers = [
            _from_flags(flags or {}),
            _from_environment(environ),
            *(_read_file(path, environ) for path in files),
        ]
        for layer in layers:
            if _DATA_ALIAS in layer:
                layer.setdefault("data", layer[_DATA_ALIAS])
        values: dict[str, Value] = {}
        for name, item in all_settings().items():
            given = (layer[name] for layer in layers if name in layer)
            values[name] = next(given, Value(item.default, "default"))
        values[_DATA_ALIAS] = values["data"]
        return cls(values, files)

    def __getitem__(self, name: str) -> Value:
        """Return the value of a setting and its source."""
        return self._values[name]

    def items(self) -> Iterator[tuple[Setting, Value]]:
        """Yield every setting with its value, in the order of the declarations."""
        for name, value in self._values.items():
            yield setting(name), value

    @property
    def data(self) -> Path:
        """The data directory."""
        return Path(str(self["data"].value)).expanduser()

    @property
    def source(self) -> str:
        """The source that analyses read: `--source`, else the data directory."""
        given = self["source"].value
        return str(given) if given is not None else str(self.data)

    @property
    def format(self) -> Format | None:
        """The form of the answer that was asked for, None when none was."""
        return cast("Format | None", self["format"].value)

    @property
    def prices(self) -> Path | None:
        """The file with the user's own prices."""
        given = self["prices"].value
        return Path(str(given)).expanduser() if given is not None else None

    @property
    def clickhouse_password(self) -> str | None:
        """The password for `clickhouse://` sources, None when there is none."""
        return str(self["storage.clickhouse.password"].value) or None

    @property
    def webhooks(self) -> tuple[Webhook, ...]:
        """Where alerts are posted.

        Raises:
            ConfigError: an address that cannot be posted to.
        """
        value = self["alerts.webhooks"]
        webhooks = cast("tuple[Webhook, ...]", value.value)
        try:
            for position, webhook in enumerate(webhooks):
                webhook.validate(f"alerts.webhooks[{position}]")
        except ConfigError as error:
            raise ConfigError(f"{value.source}: {error.message}", hint=error.hint) from None
        return webhooks

    def collector(self) -> CollectorConfig:
        """Return the collector's configuration, validated.

        Raises:
            ConfigError: a value out of range; names the setting and where it comes from.
        """
        from pyflare_collector.config import CollectorConfig

        config = _build(CollectorConfig, "", self._values)
        try:
            config.validate()
        except ConfigError as error:
            raise self._located(error) from None
        return config

    def _located(self, error: ConfigError) -> ConfigError:
        """Name the file, variable or flag in an error of a value's range."""
        path = error.message.split(" ", 1)[0]
        names = [
            name
            for name in self._values
            if path == name or path.startswith((f"{name}.", f"{name}["))
        ]
        if not names:
            names = [name for name in self._values if name.startswith(f"{path}.")]
        sources = {self[name].source for name in names} - {"default"}
        where = f"{', '.join(sorted(sources))}: " if sources else ""
        return ConfigError(f"{where}{error.message}", hint=error.hint)


def user_config_file() -> Path:
    """Return the path of the user's configuration file, which need not exist."""
    from platformdirs import user_config_path

    return user_config_path("pyflare", appauthor=False) / PROJECT_FILE


def masked(item: Setting, value: object) -> object:
    """Return a value as it may be shown: secrets and passwords inside URLs replaced."""
    if item.secret:
        return MASK if value else value
    if isinstance(value, str):
        return _URL_PASSWORD.sub(rf"\1:{MASK}@", value)
    return value


def check_file(path: Path, environ: Mapping[str, str] | None = None) -> None:
    """Validate one configuration file by itself: keys, types and ranges.

    Raises:
        ConfigError: names the file, the key and the nearest known key.
    """
    layer = _read_file(path, os.environ if environ is None else environ)
    values = {name: Value(item.default, "default") for name, item in all_settings().items()}
    settings = Settings(values | layer)
    settings.collector()
    _ = settings.webhooks


def _from_flags(flags: Mapping[str, object]) -> dict[str, Value]:
    layer: dict[str, Value] = {}
    for name, given in flags.items():
        if given is None or given is False:
            continue
        item = setting(name)
        flag = item.flag or f"--{name}"
        value = parse_text(given, item.type, flag) if isinstance(given, str) else given
        layer[name] = Value(value, f"flag {flag}")
    return layer


def _from_environment(environ: Mapping[str, str]) -> dict[str, Value]:
    known = {item.env: item for item in all_settings().values()}
    sections = tuple(f"PYFLARE_{name.upper()}__" for name in COLLECTOR_SECTIONS)
    layer: dict[str, Value] = {}
    for variable, text in environ.items():
        item = known.get(variable)
        if item is None:
            if variable.startswith(sections):
                guess = nearest(variable, known)
                raise ConfigError(
                    f"unknown environment variable {variable}",
                    hint=f"did you mean {guess}?" if guess else "pyflare config show lists them",
                )
            continue
        if text == "":
            continue  # set but empty: what shells make of an unset variable
        source = f"environment {variable}"
        layer[item.name] = Value(_guarded(item, text, variable, from_text=True), source)
    return layer


def _files(
    config: Path | None, environ: Mapping[str, str], directory: Path, user_file: Path | None
) -> Iterator[Path]:
    """Yield the configuration files that count, the nearer first."""
    if config is None and environ.get("PYFLARE_CONFIG"):
        config = Path(environ["PYFLARE_CONFIG"])
    if config is not None:
        yield config
    elif (directory / PROJECT_FILE).is_file():
        yield directory / PROJECT_FILE
    user_file = user_config_file() if user_file is None else user_file
    if user_file.is_file():
        yield user_file


def _read_file(path: Path, environ: Mapping[str, str]) -> dict[str, Value]:
    from pyflare_cli.yaml_file import read_yaml

    layer: dict[str, Value] = {}
    source = f"file {path}"
    for name, raw in _walk(read_yaml(path), "", str(path)):
        item = setting(name)
        value, expanded = _expand(raw, environ, f"{path}: {name}")
        from_text = expanded and isinstance(value, str)
        layer[name] = Value(_guarded(item, value, f"{path}: {name}", from_text=from_text), source)
    both = [layer[name].value for name in ("data", _DATA_ALIAS) if name in layer]
    if len(both) == 2 and both[0] != both[1]:
        raise ConfigError(
            f"{path}: data is {both[0]!r} and {_DATA_ALIAS} is {both[1]!r}, which mean the same",
            hint=f"keep one of them in {path}",
        )
    return layer


def _walk(tree: object, prefix: str, file: str) -> Iterator[tuple[str, object]]:
    """Yield the settings of a file as (dotted name, raw value); unknown keys are errors."""
    known = all_settings()
    sections = {name.rpartition(".")[0] for name in known} | set(COLLECTOR_SECTIONS)
    sections |= {parent.rpartition(".")[0] for parent in sections}
    if not isinstance(tree, Mapping):
        where = prefix or "the file"
        raise ConfigError(
            f"{file}: {where} is {tree!r}, expected a mapping of keys",
            hint=f"write {prefix or 'sampler'}: followed by indented keys",
        )
    for key, value in tree.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        if name in known:
            if value is not None:
                yield name, value
        elif name in sections:
            if value is not None:
                yield from _walk(value, name, file)
        else:
            guess = _nearest_key(name, {*known, *(sections - {""})})
            raise ConfigError(
                f"{file}: unknown key '{name}'",
                hint=f"did you mean '{guess}'?"
                if guess
                else "pyflare config schema lists the keys",
            )


def _nearest_key(name: str, known: set[str]) -> str | None:
    """Return the known key most like `name`: beside it first, then of its last part anywhere."""
    parent, _, leaf = name.rpartition(".")
    beside = {key.rpartition(".")[2]: key for key in known if key.rpartition(".")[0] == parent}
    guess = nearest(leaf, beside)
    if guess is not None:
        return beside[guess]
    elsewhere = sorted(key for key in known if key.rpartition(".")[2] == leaf)
    return elsewhere[0] if elsewhere else nearest(name, known)


def _expand(raw: object, environ: Mapping[str, str], where: str) -> tuple[object, bool]:
    """Replace `${NAME}` in every text of a raw value; also tell whether anything was."""
    if isinstance(raw, Mapping):
        pairs = {key: _expand(item, environ, f"{where}.{key}") for key, item in raw.items()}
        return {key: item for key, (item, _) in pairs.items()}, False
    if isinstance(raw, list):
        return [_expand(item, environ, where)[0] for item in raw], False
    if not isinstance(raw, str) or "${" not in raw:
        return raw, False

    def replace(match: re.Match[str]) -> str:
        if match.group(1) == "${":
            return "${"
        variable = match.group(2)
        if variable is None:
            raise ConfigError(
                f"{where}: '${{' without a variable name and '}}'",
                hint="write ${NAME}, or $${ for the characters themselves",
            )
        if variable not in environ:
            raise ConfigError(
                f"{where}: environment variable {variable} is not set",
                hint=f"export {variable}=..., or remove ${{{variable}}} from the file",
            )
        return environ[variable]

    return _VARIABLE.sub(replace, raw), True


def _guarded(item: Setting, value: object, where: str, *, from_text: bool) -> object:
    """Convert a value; a secret never appears in the error."""
    try:
        if from_text:
            return parse_text(str(value), item.type, where)
        return convert(value, item.type, where)
    except ConfigError as error:
        if item.secret:
            raise ConfigError(
                f"{where} has a value of the wrong type, expected {expected(item.type)}",
                hint=f"set {item.name} to {expected(item.type)}",
            ) from None
        hint = (error.hint or "").replace(f"{where} ", f"{item.name} ")
        raise ConfigError(error.message, hint=hint) from None


def _build(cls: type[ConfigT], prefix: str, values: Mapping[str, Value]) -> ConfigT:
    """Put the leaves of a tree of dataclasses together again."""
    given: dict[str, object] = {}
    for name, declared in field_types(cls).items():
        path = f"{prefix}{name}"
        if path in values:
            given[name] = values[path].value
        else:
            given[name] = _build(cast("type", declared), f"{path}.", values)
    return cls(**given)
