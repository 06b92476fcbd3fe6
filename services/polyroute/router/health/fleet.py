"""Which deployments there are: those that the catalog names, and those that callers thought of."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

from polyroute.router.health.cooldown import Cooldown
from polyroute.router.health.hedge import Delays, HedgeBudget, HedgeRules
from polyroute.router.health.unit import Group, Member, Rules, Unit

STRANGERS: Final = 2000  # deployments that no catalog names; callers may think of many


class Fleet:
    """All deployments, by their models and by the providers whose keys they share.

    Args:
        rules: Every number.
        chance: Gives numbers from 0 to below 1, for the jitter.

    Attributes:
        rules: Every number, as of now.
        units: Name -> deployment; the dict stays the same one.
        houses: Provider -> the rests of its keys.
        touched: Those that something came in of since they were last taken.
    """

    def __init__(self, rules: Rules, chance: Callable[[], float]) -> None:
        self.rules = rules
        self.units: dict[str, Unit] = {}
        self.houses: dict[str, Cooldown] = {}
        self.touched: list[Unit] = []
        self._chance = chance
        self._groups: dict[str, Group] = {}
        self._strangers: dict[str, None] = {}  # the one met first first

    def arrange(self, members: Iterable[Member], now: float) -> None:
        """Takes in the deployments of a catalog: those that stay keep what is known of them."""
        wanted = {member.deployment: member for member in members}
        for name in self.units.keys() - wanted.keys():
            self._drop(self.units[name])
        for member in wanted.values():
            unit = self.units.get(member.deployment)
            if unit is None:
                self._add(member, now)
            elif unit.member != member:
                self._move(unit, member)

    def known(self) -> list[Unit]:
        """Those that the catalog names."""
        return [unit for name, unit in self.units.items() if name not in self._strangers]

    def met(self, deployment: str, now: float) -> Unit:
        """A deployment that no catalog names: its model is asked for as `provider/model`."""
        if len(self._strangers) >= STRANGERS:
            self._drop(self.units[next(iter(self._strangers))])
        self._strangers[deployment] = None
        return self._add(Member(deployment, deployment, deployment.partition("/")[0]), now)

    def _add(self, member: Member, now: float) -> Unit:
        group = self._group(member.group)
        unit = Unit(member, group, self._house(member), self.rules, self._chance, now)
        group.members.append(unit)
        self.units[member.deployment] = unit
        return unit

    def _move(self, unit: Unit, member: Member) -> None:
        """A deployment's model, provider or number of keys is another now."""
        unit.group.members.remove(unit)
        unit.group = self._group(member.group)
        unit.group.members.append(unit)
        if unit.member.provider != member.provider or unit.member.keys != member.keys:
            unit.cooldown = Cooldown(member.keys)
            unit.gone.clear()
            unit.house = self._house(member)
        unit.member = member

    def _group(self, name: str) -> Group:
        found = self._groups.get(name)
        if found is None:
            found = self._groups[name] = Group(name, self.rules)
        return found

    def _house(self, member: Member) -> Cooldown:
        found = self.houses.get(member.provider)
        if found is None:
            found = self.houses[member.provider] = Cooldown(member.keys)
        return found

    def _drop(self, unit: Unit) -> None:
        del self.units[unit.name]
        self._strangers.pop(unit.name, None)
        unit.group.members.remove(unit)
        if not unit.group.members:
            self._groups.pop(unit.group.name, None)

    def forgive(self, provider: str) -> None:
        """A provider's keys were changed: what was refused may be granted."""
        house = self.houses.get(provider)
        if house is not None:
            house.forget()
        for unit in self.units.values():
            if unit.member.provider == provider:
                unit.forgive()
                self.touch((unit,))

    def hedge(self, rules: HedgeRules | None) -> None:
        """Hedges by these rules from now on; not at all by None."""
        if rules == self.rules.hedging:
            return
        self.rules = replace(self.rules, hedging=rules)
        for group in self._groups.values():
            group.hedges = HedgeBudget(rules) if rules else None
        for unit in self.units.values():
            unit.delays = Delays(rules) if rules else None

    def touch(self, units: Iterable[Unit]) -> None:
        """Has them looked at in the next review."""
        for unit in units:
            if not unit.touched:
                unit.touched = True
                self.touched.append(unit)

    def take_touched(self) -> list[Unit]:
        """Those that something came in of since the last time."""
        taken, self.touched = self.touched, []
        for unit in taken:
            unit.touched = False
        return taken
