"""Flags declared by launchers, on the commands that take their settings: `--time 4:00:00` is `-o time=4:00:00`."""

from __future__ import annotations

import inspect
from typing import Annotated, Any, Optional

import typer
from typer.core import TyperCommand


class LauncherCommand(TyperCommand):
    """A command with an `--option` of `name=value` words, and with every flag that a registered launcher declares."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The command's own options, then the launchers' flags that are not among its own options."""
        return [*super().get_params(ctx), *self._flags()]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments; flags of launchers become words of `--option`, which have priority."""
        rest = super().parse_args(ctx, args)
        words = []
        for option in self._flags():
            value = ctx.params.pop(option.name, None)
            if value not in (None, False):
                words.append(f"{option.name.removeprefix(_PREFIX)}={_word(value)}")
        if words:
            ctx.params["option"] = [*words, *(ctx.params.get("option") or [])]
        return list(rest)

    def _flags(self) -> list[Any]:
        if not hasattr(self, "_made"):
            self._made = _launcher_options({text for param in self.params for text in param.opts})
        return self._made


_PREFIX = "launcher_setting_"


def _word(value: Any) -> str:
    return "true" if value is True else str(value)


def _launcher_options(taken: set[str]) -> list[Any]:
    """An option for every setting with flags; a flag belongs to the first launcher that declares it."""
    from harness.launch.base import LAUNCHERS, describe_settings
    from harness.launch.settings import CONFIG, CONFIG_HELP

    parameters = []
    for entry in LAUNCHERS:
        cls = entry.cls
        settings = {one["name"]: one for one in describe_settings(cls)}
        settings[CONFIG] = {"type": "text", "help": CONFIG_HELP.replace("NAME", cls.name)}
        for name, flags in cls.flags.items():
            own = [flag for flag in flags if flag not in taken]
            if own:
                taken |= set(own)
                kind: Any = bool if settings[name]["type"] == "boolean" else str
                help_ = settings[name]["help"]
                option = typer.Option(*own, help=help_, rich_help_panel=f"Launcher {cls.name}", show_default=False)
                hint = Annotated[Optional[kind], option]  # noqa: UP045 - `kind` is a variable
                parameters.append(
                    inspect.Parameter(_PREFIX + name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=hint)
                )
    return _as_options(parameters)


def _as_options(parameters: list[inspect.Parameter]) -> list[Any]:
    """The options that typer creates for a function with these parameters."""

    def function(**_: Any) -> None: ...

    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    function.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    app = typer.Typer(add_completion=False)
    app.command()(function)
    return [param for param in typer.main.get_command(app).params if str(param.name).startswith(_PREFIX)]
