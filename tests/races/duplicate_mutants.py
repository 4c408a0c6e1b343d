"""The shortcuts of the remedy (SUB-16 to SUB-21), as switchable changes of the real code, each with its test."""

from typing import Any

from billing.duplicates import policy
from billing.duplicates import store as duplicates_store
from billing.models import RemedyState, remedies
from tests.races.mutant import Mutant

REMEDY = "tests/billing/duplicates/test_remedy.py"


def keep_the_oldest(_: Any, candidates: Any) -> Any:
    """Whatever it pays, the oldest stays."""
    return policy._Choice(candidates[0], list(candidates[1:]))


def plan_without_a_look(_: Any, connection: Any, values: Any) -> bool:
    """A plan is written whoever was chosen to stay before."""
    return bool(duplicates_store.insert_new(connection, remedies, {**values, "state": RemedyState.PLANNED}))


DUPLICATE_MUTANTS = {
    "keep_the_oldest": Mutant(
        "the oldest stays, whether it pays or not",
        {policy._choose: keep_the_oldest},
        test=f"{REMEDY}::test_older_one_that_does_not_pay_goes_and_the_paid_one_stays",
    ),
    "forget_who_stays": Mutant(
        "whoever was chosen to stay may be canceled later",
        {duplicates_store.find_kept: lambda _, *rest: frozenset(), duplicates_store.plan: plan_without_a_look},
        test=f"{REMEDY}::test_two_plans_never_cross_when_the_older_one_pays_again",
    ),
}
