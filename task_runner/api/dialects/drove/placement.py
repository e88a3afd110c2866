"""Placement policies: whether this node is one that a task may be placed on.

As Drove's scheduler has it: a policy that says nothing of tags wants a node without any; what is counted are the tasks
of the same source application that are not over; a rule is evaluated by nobody, Drove itself included.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from task_runner.api.dialects.drove.reader import EMPTY, Reader

ANY, ONE, MAX_N, MATCH, NO_TAG, RULE, COMPOSITE, LOCAL = (
    "ANY", "ONE_PER_HOST", "MAX_N_PER_HOST", "MATCH_TAG", "NO_TAG", "RULE_BASED", "COMPOSITE", "LOCAL",
)  # fmt: skip
_TYPES = (ANY, ONE, MAX_N, MATCH, NO_TAG, RULE, COMPOSITE, LOCAL)
#: policies within policies; a client that has more of them is after something else
_DEEPEST = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """One policy, with those that it is composed of."""

    type: str = ANY
    #: of MAX_N_PER_HOST
    most: int = 1
    #: of MATCH_TAG
    tag: str = ""
    #: of RULE_BASED, as it was given
    rule: str = ""
    rule_type: str = "HOPE"
    #: of COMPOSITE
    policies: tuple[Policy, ...] = ()
    combiner: str = "AND"
    host_level: bool = False

    def json(self) -> dict[str, Any]:
        """As Drove has it."""
        more: dict[str, Any] = {}
        match self.type:
            case "MAX_N_PER_HOST":
                more = {"max": self.most}
            case "MATCH_TAG":
                more = {"tag": self.tag}
            case "RULE_BASED":
                more = {"rule": self.rule, "ruleType": self.rule_type}
            case "COMPOSITE":
                more = {"policies": [each.json() for each in self.policies], "combiner": self.combiner}
            case "LOCAL":
                more = {"hostLevel": self.host_level}
        return {"type": self.type, **more}

    def every(self) -> Iterator[Policy]:
        """This one and all below."""
        yield self
        for each in self.policies:
            yield from each.every()

    @property
    def counts(self) -> bool:
        """Whether it matters how many tasks there are."""
        return any(each.type in (ONE, MAX_N) for each in self.every())


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """This node."""

    hostname: str
    #: what it is set to have beside its name, which is one, too
    tags: Collection[str]
    #: tasks of the same source application that are not over
    tasks: int


def read(reader: Reader | None) -> Policy | None:
    """The policy of a request, ANY where there is none; None after a fault."""
    return Policy() if reader is None else _read(reader, _DEEPEST)


def _read(reader: Reader, left: int) -> Policy | None:
    found = reader.word("type", _TYPES)
    if found is None:
        return None
    match found:
        case "MAX_N_PER_HOST":
            most = reader.whole("max", 1, 64)
            return None if most is None else Policy(type=found, most=most)
        case "MATCH_TAG":
            tag = reader.text("tag", missing=EMPTY)
            return None if tag is None else Policy(type=found, tag=tag)
        case "RULE_BASED":
            rule, kind = reader.text("rule", missing=EMPTY), reader.word("ruleType", ("HOPE", "MVEL"))
            return None if rule is None or kind is None else Policy(type=found, rule=rule, rule_type=kind)
        case "COMPOSITE":
            return _read_composite(reader, left)
    return Policy(type=found, host_level=reader.flag("hostLevel", default=False))


def _read_composite(reader: Reader, left: int) -> Policy | None:
    if left == 0:
        reader.fault("policies", f"- stand {_DEEPEST} deep in each other: write them flatter")
        return None
    policies = [_read(each, left - 1) for each in reader.objects("policies", missing=EMPTY)]
    combiner = reader.word("combiner", ("AND", "OR"), default="AND")
    found = tuple(each for each in policies if each is not None)
    if not found or combiner is None or len(found) < len(policies):
        return None
    return Policy(type=COMPOSITE, policies=found, combiner=combiner)


def obstacle(policy: Policy, here: Place) -> str | None:
    """Why a task cannot be placed here; None: it can."""
    if not any(each.type in (MATCH, NO_TAG) for each in policy.every()):
        policy = Policy(type=COMPOSITE, policies=(policy, Policy(type=NO_TAG)))
    return _obstacle(policy, here)


def _obstacle(policy: Policy, here: Place) -> str | None:
    match policy.type:
        case "ONE_PER_HOST" | "MAX_N_PER_HOST":
            if here.tasks < policy.most:
                return None
            return (
                f"{policy.type} allows {policy.most} of this source application on this node, the only one, and "
                f"{here.tasks} are not over: wait for their end, or kill them"
            )
        case "MATCH_TAG":
            if policy.tag in (here.hostname, *here.tags):
                return None
            return f"this node, the only one, has not the tag {policy.tag!r}; its tags: {_listed(here)} (drove_tags)"
        case "NO_TAG":
            if not set(here.tags) - {here.hostname}:
                return None
            return f"this node, the only one, is for tasks with MATCH_TAG for one of: {_listed(here)} (drove_tags)"
        case "RULE_BASED":
            return "rules are not evaluated: say with MATCH_TAG which node is meant"
        case "COMPOSITE":
            found = [_obstacle(each, here) for each in policy.policies]
            told = [each for each in found if each is not None]
            met = not told if policy.combiner == "AND" else len(told) < len(found)
            return None if met else "; ".join(told)
    return None


def _listed(here: Place) -> str:
    return ", ".join([here.hostname, *sorted(here.tags)])
