"""The terms of a ``mixture``, from the words of settings: each a loss by name, its weight, and its first look."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from smp_feedback.checks import check_number, check_whole
from smp_feedback.errors import InvalidType, InvalidValue, UnknownKeyword, nearest
from smp_feedback.losses.mixture import LossMixture, Term

USUAL_TERMS = ({"name": "cross_entropy"}, {"name": "dice"})
KEYS = ("name", "weight", "from_look", "arguments")
Build = Callable[[str, Mapping[str, Any] | None], nn.Module]
"""From the name of a loss and its arguments to the loss."""


def terms_of(asked: Any, build: Build) -> list[Term]:
    """The terms of a mixture.

    Args:
        asked: A list of names, of dicts of ``name``, ``weight``, ``from_look`` and ``arguments``, and of terms; None is
            cross-entropy and Dice.
        build: Makes each loss.

    Raises:
        InvalidType, InvalidValue, UnknownKeyword: If a term is something else, naming its place.

    >>> terms = terms_of(["mse", {"name": "l1", "weight": 0.5, "from_look": 2}], lambda name, _: nn.Identity())
    >>> [(term.weight, term.from_look) for term in terms]
    [(1.0, 1), (0.5, 2)]
    """
    if isinstance(asked, (str, Mapping)) or not isinstance(asked, (Sequence, type(None))):
        raise InvalidType(f"loss_arguments.terms={asked!r:.60}: expected a list, such as [cross_entropy, dice].")
    terms = USUAL_TERMS if asked is None else asked
    if not terms:
        raise InvalidValue("loss_arguments.terms=[]: expected at least one loss.")
    return [_term(one, f"loss_arguments.terms[{k}]", build) for k, one in enumerate(terms)]


def check_reached(loss: nn.Module, furthest: int) -> None:
    """Every term of *loss*, if it is a mixture, judges one of the looks that training comes to.

    Raises:
        InvalidValue: If one does not, with the look that it waits for.

    >>> check_reached(LossMixture(terms=[Term(nn.MSELoss(), from_look=3)]), furthest=2)
    Traceback (most recent call last):
    smp_feedback.errors.InvalidValue: loss_arguments.terms[0].from_look=3: training comes to 2 looks; expected 1 to 2.
    """
    for k, start in enumerate(loss.starts if isinstance(loss, LossMixture) else ()):
        if start > furthest:
            looks, least = f"{furthest} look{'s' * (furthest > 1)}", f"1 to {furthest}" if furthest > 1 else "1"
            where = f"loss_arguments.terms[{k}].from_look={start}"
            raise InvalidValue(f"{where}: training comes to {looks}; expected {least}.")


def from_the_first_look(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """*arguments* of a mixture for a model of one look, all of whose terms judge that.

    >>> from_the_first_look({"terms": ["dice", {"name": "soft_cldice", "from_look": 2}]})
    {'terms': ['dice', {'name': 'soft_cldice'}]}
    """
    terms = arguments.get("terms")
    if not isinstance(terms, Sequence) or isinstance(terms, str):
        return dict(arguments)
    kept = [
        {k: part for k, part in one.items() if k != "from_look"} if isinstance(one, Mapping) else one for one in terms
    ]
    return {**arguments, "terms": kept}


def _term(asked: Any, where: str, build: Build) -> Term:
    if isinstance(asked, Term):
        return asked
    settings = {"name": asked} if isinstance(asked, str) else asked
    if not isinstance(settings, Mapping) or not isinstance(settings.get("name"), str):
        raise InvalidType(f"{where}={asked!r:.60}: expected the name of a loss, or a dict with its 'name'.")
    for key in settings:
        if key not in KEYS:
            raise UnknownKeyword(f"{where} takes no {key!r}. {nearest(key, KEYS)}")
    arguments, weight = settings.get("arguments"), settings.get("weight", 1.0)
    if not isinstance(arguments, (Mapping, type(None))):
        raise InvalidType(f"{where}.arguments={arguments!r:.60}: expected a dict, such as {{smooth: 1.0}}.")
    check_number(f"{where}.weight", weight, above=0)
    start = check_whole(f"{where}.from_look", settings.get("from_look", 1))
    try:
        loss = build(settings["name"], arguments)
    except (InvalidType, InvalidValue) as error:
        raise type(error)(f"{where}: {error}") from error
    if isinstance(loss, LossMixture):
        raise InvalidValue(f"{where} is a mixture itself: expected its terms among these, each with its own from_look.")
    return Term(loss, float(weight), start)
