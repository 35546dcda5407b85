"""Finding plugins: targets are listed from package metadata alone, code is loaded only when used.

Entry-point groups:

``accel.targets``
    One entry a chip, to a :class:`accel.target.Target`. Two entries of one package to the same object
    are a chip and its alias.
``accel.plugins``
    One entry a vendor, named like ``Target.vendor``; loaded when one of its targets is used.
``accel.extensions``
    Frontends, data sets and tasks that belong to no chip; loaded with the first stage that runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata
from typing import TYPE_CHECKING, Any

from accel.errors import AccelError

if TYPE_CHECKING:
    import pluggy

    from accel.target import Target

TARGETS = "accel.targets"
PLUGINS = "accel.plugins"
EXTENSIONS = "accel.extensions"


@dataclass(frozen=True)
class Origin:
    """Where an entry point comes from."""

    name: str
    value: str
    package: str
    version: str

    def __str__(self) -> str:
        return f"{self.package} {self.version}"


@dataclass(frozen=True)
class TargetEntry:
    """A chip as the metadata describe it, its code not loaded."""

    name: str
    origin: Origin
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Problem:
    """Something that is installed and cannot be used."""

    name: str
    origin: str
    reason: str
    hint: str = ""


@dataclass
class Registry:
    """The plugins of this interpreter. Make one with :func:`registry`; tests make their own."""

    problems: list[Problem] = field(default_factory=list)
    _vendors: set[str] = field(default_factory=set)

    def origins(self, group: str) -> tuple[Origin, ...]:
        """Every entry of a group, sorted by name, without importing anything of theirs."""
        return self._by_group.get(group, ())

    @cached_property
    def _by_group(self) -> dict[str, tuple[Origin, ...]]:
        # Not stevedore's cached listing: it loses the distribution, and a conflict must name both.
        found: dict[str, dict[tuple[str, str, str], Origin]] = {}
        for dist in metadata.distributions():
            ours = [entry for entry in dist.entry_points if entry.group in (TARGETS, PLUGINS, EXTENSIONS)]
            if not ours:
                continue
            about = dist.metadata  # read and parsed at every access
            package, version = about["Name"] or "unknown package", about["Version"]
            for entry in ours:
                # A path that stands on sys.path twice shows the same package twice.
                found.setdefault(entry.group, {}).setdefault(
                    (entry.name, entry.value, package), Origin(entry.name, entry.value, package, version)
                )
        return {
            group: tuple(sorted(entries.values(), key=lambda o: (o.name, o.package)))
            for group, entries in found.items()
        }

    @cached_property
    def targets(self) -> dict[str, TargetEntry]:
        """Chips by name; conflicts are left out and reported in ``problems``."""
        origins = self._unique(TARGETS)
        groups: dict[tuple[str, str], list[Origin]] = {}
        for origin in origins.values():
            groups.setdefault((origin.package, origin.value), []).append(origin)
        listed: dict[str, TargetEntry] = {}
        for entries in groups.values():
            attribute = entries[0].value.rpartition(":")[2]
            main = next((o for o in entries if _plain(o.name) == _plain(attribute)), entries[0])
            aliases = tuple(o.name for o in entries if o is not main)
            listed[main.name] = TargetEntry(main.name, main, aliases)
        return dict(sorted(listed.items()))

    def target(self, name: str) -> Target:
        """Load one chip, by name or alias, and the plugin of its vendor.

        Raises:
            AccelError: ``usage.target`` when no package brings it (near names are offered);
                ``failed.plugin`` when the package that brings it cannot be loaded.
        """
        wanted = name.strip().lower()
        for entry in self.targets.values():
            if wanted == entry.name or wanted in entry.aliases:
                break
        else:
            raise self._unknown(wanted)
        from accel.target import Target

        target = self._load(TARGETS, entry.origin)
        if not isinstance(target, Target):
            raise self._broken(entry.origin, f"{entry.origin.value} is a {type(target).__name__}, not a Target")
        self.load_vendor(target.vendor)
        return target

    def load_vendor(self, vendor: str) -> None:
        """Register the vendor's plugin, once. A vendor without one is served by the reference."""
        if vendor in self._vendors:
            return
        origin = self._unique(PLUGINS).get(vendor)
        if origin is not None:
            self._register(PLUGINS, vendor, origin)
        self._vendors.add(vendor)

    def load_everything(self) -> None:
        """Register every vendor's plugin; one that fails becomes a problem and costs nothing else."""
        for vendor in self._unique(PLUGINS):
            try:
                self.load_vendor(vendor)
            except AccelError as error:
                self._note(error)

    @cached_property
    def hooks(self) -> pluggy.HookRelay:
        """All hooks, answered by the embedded implementations and the plugins loaded so far."""
        return self._manager.hook

    @cached_property
    def _manager(self) -> pluggy.PluginManager:
        import pluggy

        from accel.builtin import PLUGINS as EMBEDDED
        from accel.hookspecs import PROJECT, AccelSpec

        manager = pluggy.PluginManager(PROJECT)
        manager.add_hookspecs(AccelSpec)
        for plugin in EMBEDDED:
            manager.register(plugin)
        self.__dict__["_manager"] = manager  # extensions register into it
        for name, origin in self._unique(EXTENSIONS).items():
            try:
                self._register(EXTENSIONS, name, origin)
            except AccelError as error:
                self._note(error)
        return manager

    def _register(self, group: str, name: str, origin: Origin) -> None:
        import pluggy

        plugin = self._load(group, origin)
        if isinstance(plugin, type):
            plugin = plugin()
        try:
            self._manager.register(plugin, name=f"{origin.package}:{name}")
            self._manager.check_pending()
        except (pluggy.PluginValidationError, ValueError) as error:
            if self._manager.is_registered(plugin):
                self._manager.unregister(plugin)
            raise self._broken(origin, str(error)) from error

    def _load(self, group: str, origin: Origin) -> Any:
        from stevedore import DriverManager

        def fail(_manager: object, _entry: object, error: BaseException) -> None:
            raise error

        try:
            # One named entry, never the whole group: the code of other packages stays unloaded.
            manager: DriverManager[Any] = DriverManager(
                group, origin.name, on_load_failure_callback=fail, on_missing_entrypoints_callback=None
            )
            return manager.driver
        except (KeyboardInterrupt, MemoryError):
            raise
        except BaseException as error:  # an import may raise anything, SystemExit included
            raise self._broken(origin, f"{type(error).__name__}: {error}") from error

    def _unique(self, group: str) -> dict[str, Origin]:
        by_name: dict[str, list[Origin]] = {}
        for origin in self.origins(group):
            by_name.setdefault(origin.name, []).append(origin)
        unique = {}
        for name, origins in by_name.items():
            if len(origins) == 1:
                unique[name] = origins[0]
                continue
            who = " and ".join(str(o) for o in origins)
            self._add(Problem(name, who, f"{name!r} is brought by {who}", "Uninstall one of them."))
        return unique

    def _unknown(self, name: str) -> AccelError:
        known = {n: e.name for e in self.targets.values() for n in (e.name, *e.aliases)}
        clash = next((p for p in self.problems if p.name == name), None)
        if clash:
            return AccelError(
                f"target {name!r} cannot be used",
                code="failed.plugin",
                cause=clash.reason,
                hints=[clash.hint],
            )
        import difflib

        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hints = [f"Did you mean {', '.join(near)}?"] if near else []
        hints.append("`accel targets` lists what is installed; each vendor is a package: pip install accel-sophon")
        return AccelError(f"no installed package brings a target {name!r}", code="usage.target", hints=hints)

    def _broken(self, origin: Origin, reason: str) -> AccelError:
        return AccelError(
            f"the plugin {origin} cannot be loaded",
            code="failed.plugin",
            cause=reason,
            hints=[f"Reinstall or upgrade it: pip install --force-reinstall {origin.package}"],
        )

    def _note(self, error: AccelError) -> None:
        self._add(Problem(error.summary, error.summary, error.cause, error.hints[0] if error.hints else ""))

    def _add(self, problem: Problem) -> None:
        if problem not in self.problems:
            self.problems.append(problem)


def _plain(name: str) -> str:
    return re.sub(r"[-_.]", "", name).lower()


_registry: Registry | None = None


def registry() -> Registry:
    """The registry of this process."""
    global _registry
    if _registry is None:
        _registry = Registry()
    return _registry


def all_targets(found: Registry) -> Iterator[Target]:
    """Every chip whose package loads; the others become problems."""
    for name in found.targets:
        try:
            yield found.target(name)
        except AccelError as error:
            found._note(error)


def hooks(target: Target | None = None, *, every_vendor: bool = False) -> pluggy.HookRelay:
    """The hooks for a piece of work: the plugin of ``target``, or with ``every_vendor`` all of them, loaded."""
    found = registry()
    if target is not None:
        found.load_vendor(target.vendor)
    if every_vendor:
        found.load_everything()
    return found.hooks
