"""The remedy of a duplicate when a process, Stripe or the network fails, and with several workers at once."""

from typing import Any

import pytest
import sqlalchemy as sa

from billing.coordination.jobs import RemedyDuplicates
from billing.maintenance.sweep import sweep
from billing.models import incidents
from billing.rules.backoff import BUSY_SECONDS
from tests.support.crashing import Crash, Fuse, FusedDatabase, FusedStripe
from tests.support.duplicates_world import Shop


def test_crash_at_every_step_is_finished_by_running_it_again(shop: Shop) -> None:
    """SUB-20: one subscription stays, one refund is made, whatever the process died at."""
    for steps in range(1, 100):
        customer = shop.customer(f"user_{steps}")
        [first], second = shop.live(customer), shop.another(customer)
        incident_id = shop.found(customer)
        fuse = Fuse(steps)
        try:
            shop.remedy(incident_id, stripe=FusedStripe(shop.stripe, fuse), database=FusedDatabase(shop.database, fuse))
        except Crash:
            shop.remedy(incident_id)
        assert shop.live(customer) == [first], steps
        assert shop.refunded(second) > 0, steps
        refunds = [one for one in shop.objects("refund") if one["created"] >= int(shop.clock.now().timestamp()) - 1]
        assert len(refunds) == 1, steps
        assert set(shop.states()) == {"refunded"}, steps
        assert shop.open_incidents() == {}, steps
        if not fuse.burnt:
            break
    assert 15 < steps < 99


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "drop_after", "method": "DELETE"},
        {"kind": "drop_before", "method": "DELETE"},
        {"kind": "drop_after", "path": "/v1/refunds"},
        {"kind": "drop_before", "path": "/v1/refunds"},
        {"kind": "save_500_with_effect", "path": "/v1/refunds"},
        {"kind": "save_500_without_effect", "path": "/v1/refunds"},
        {"kind": "status", "status": 429, "path": "/v1/refunds"},
        {"kind": "status", "status": 503, "path": "/v1/invoice_payments", "times": 3},
        {"kind": "html", "method": "DELETE"},
        {"kind": "truncated", "method": "DELETE"},
        {"kind": "stale_list", "path": "^/v1/subscriptions$", "seconds": 3600},
    ],
    ids=lambda fault: f"{fault['kind']} {fault.get('method') or fault['path']}",
)
def test_failure_in_passing_is_tried_again_by_the_sweep(shop: Shop, fault: dict[str, Any]) -> None:
    """SUB-20: each time later, and never twice in effect."""
    customer = shop.customer()
    [first], second = shop.live(customer), shop.another(customer)
    incident_id = shop.found(customer)
    shop.sandbox.faults.add(**fault)
    shop.remedy(incident_id)
    for _ in range(8):
        shop.clock.advance(minutes=61)
        shop.queue.sent.clear()
        sweep(database=shop.database, queue=shop.queue, clock=shop.clock, cancels_duplicates=True)
        for job in [job for job in shop.queue.sent if isinstance(job, RemedyDuplicates)]:
            shop.remedy(job.row_id)
    assert shop.live(customer) == [first]
    assert len(shop.objects("refund")) == 1
    assert shop.refunded(second) > 0
    assert (shop.states(), shop.open_incidents()) == (["refunded"], {})


def test_failure_asks_for_patience(shop: Shop) -> None:
    """SUB-20: a wake-up that comes too early asks nothing of Stripe."""
    customer = shop.customer()
    shop.another(customer)
    incident_id = shop.found(customer)
    shop.sandbox.faults.add("status", status=503, method="DELETE")
    shop.remedy(incident_id)
    before = len(shop.requests())
    assert shop.open_incidents()["duplicate_subscription"], "it says why"
    shop.remedy(incident_id)
    assert len(shop.requests()) == before
    sweep(database=shop.database, queue=shop.queue, clock=shop.clock, cancels_duplicates=True)
    assert RemedyDuplicates(incident_id) not in shop.queue.sent


def test_stripe_that_asks_to_slow_down_is_no_failure_of_the_remedy(shop: Shop) -> None:
    """SUB-20: ten times, and the next failure in earnest waits as long as a first one."""
    customer = shop.customer()
    shop.another(customer)
    incident_id = shop.found(customer)
    shop.sandbox.faults.add("status", status=429, method="DELETE", times=10)
    for _ in range(10):
        shop.remedy(incident_id)
        shop.clock.advance(seconds=6)
    [incident] = shop.rows(incidents)
    assert (incident.failures, len(shop.live(customer))) == (0, 2)
    for failures in (10, 0):  # nor does it wait longer after failures in earnest
        with shop.database.write() as connection:
            connection.execute(sa.update(incidents).values(failures=failures, next_attempt_at=None))
        shop.sandbox.faults.add("status", status=429, method="DELETE")
        shop.remedy(incident_id)
        [incident] = shop.rows(incidents)
        assert (incident.next_attempt_at - shop.clock.now()).total_seconds() <= BUSY_SECONDS
    shop.clock.advance(seconds=6)
    shop.remedy(incident_id)
    assert len(shop.live(customer)) == 1


@pytest.mark.parametrize("meanwhile", ["nothing", "a person", "this remedy"])
def test_refused_cancellation_is_judged_by_what_stripe_has_then(shop: Shop, meanwhile: str) -> None:
    """SUB-19, SUB-21: it may be over by then, and whoever ended it gives the money back."""
    customer = shop.customer()
    second = shop.another(customer)
    incident_id = shop.found(customer)
    real = shop.stripe.cancel_subscription

    def overtaken(subscription_id: str, *, comment: str) -> None:
        shop.stripe.cancel_subscription = real  # type: ignore[method-assign]
        if meanwhile == "a person":
            shop.sandbox.request("DELETE", f"/v1/subscriptions/{second}")
        elif meanwhile == "this remedy":
            real(subscription_id, comment=comment)
        shop.sandbox.faults.add("status", status=400, method="DELETE")
        real(subscription_id, comment=comment)

    shop.stripe.cancel_subscription = overtaken  # type: ignore[method-assign]
    shop.remedy(incident_id)
    states = {"nothing": ["planned"], "a person": ["dropped"], "this remedy": ["refunded"]}
    assert shop.states() == states[meanwhile]
    assert (shop.refunded(second) > 0) == (meanwhile == "this remedy")
    assert len(shop.live(customer)) == (2 if meanwhile == "nothing" else 1)
    assert bool(shop.reason()) == (meanwhile == "nothing")


def test_refused_refund_stays_open_with_the_reason_until_it_is_paid_back(shop: Shop) -> None:
    """SUB-21: the duplicate is over, the money is not; a person refunds by hand, and we notice."""
    customer = shop.customer()
    second = shop.another(customer)
    incident_id = shop.found(customer)
    shop.sandbox.faults.add("status", status=400, code="charge_disputed", method="POST", path="/v1/refunds", times=None)
    shop.remedy(incident_id)
    assert len(shop.live(customer)) == 1
    opened = shop.open_incidents()
    assert list(opened) == ["duplicate_subscription"]
    assert "charge_disputed" in (opened["duplicate_subscription"] or "")
    shop.sandbox.faults.clear()
    intent = shop.objects("payment_intent")[0]["id"]
    assert shop.sandbox.request("POST", "/v1/refunds", {"payment_intent": intent}).status == 200
    shop.clock.advance(minutes=61)
    sweep(database=shop.database, queue=shop.queue, clock=shop.clock)
    assert RemedyDuplicates(incident_id) in shop.queue.sent, "also where the policy is alert by now"
    shop.remedy(incident_id, cancels=False)
    assert (shop.states(), shop.open_incidents()) == (["refunded"], {})
    assert shop.refunded(second) > 0


def test_refused_cancellation_stays_open_with_the_reason(shop: Shop) -> None:
    """SUB-21: a restricted key, say."""
    customer = shop.customer()
    shop.another(customer)
    incident_id = shop.found(customer)
    shop.sandbox.faults.add("status", status=403, method="DELETE")
    shop.remedy(incident_id)
    assert len(shop.live(customer)) == 2
    assert "STRIPE_API_KEY" in (shop.open_incidents()["duplicate_subscription"] or "")


def test_workers_at_once_cancel_and_refund_once(shop: Shop) -> None:
    """SUB-20: five of them, without any lock."""
    customer = shop.customer()
    [first] = shop.live(customer)
    others = [shop.another(customer) for _ in range(2)]
    incident_id = shop.found(customer)
    shop.remedy_at_once(incident_id)
    shop.clock.advance(minutes=61)  # one may have met another's key in use
    shop.remedy(incident_id)
    assert shop.live(customer) == [first]
    assert len(shop.objects("refund")) == 2
    assert all(shop.refunded(id_) > 0 for id_ in others)
    assert set(shop.states()) <= {"refunded", "dropped"}
    assert shop.states().count("refunded") == 2
    assert shop.open_incidents() == {}
