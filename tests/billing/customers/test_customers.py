"""One Stripe customer per user: created at once by many, with answers lost, and replaced once Stripe deleted it."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from billing.customers import store as customers_store
from billing.customers.customers import claim_customer, ensure_customer
from billing.errors import CustomerTaken, UserErased
from billing.models import CheckoutStatus, customers, outbox
from billing.subscriptions.context import Context as SyncContext
from billing.subscriptions.queries import read_subscription
from billing.subscriptions.sync import sync_customer
from tests.races.unlocked import NoLocks
from tests.support.checkout_world import UNCLEAR, World

CUSTOMERS = "^/v1/customers$"


def row(world: World, user: str = "user_1") -> Any:
    """The user's row in the ledger."""
    with world.database.read() as connection:
        return connection.execute(sa.select(customers).where(customers.c.user_id == user)).one()


def storm(world: World, checkout_id: str, *, rounds: int = 12, seconds: float = 61) -> Any:
    """Six workers at once without any lock, again and again, until the checkout is answered; the answer."""
    for _ in range(rounds):
        with ThreadPoolExecutor(6) as workers:
            list(workers.map(lambda _: world.work_lane(locks=NoLocks()), range(6)))
        view = world.view(checkout_id)
        if view.status is not CheckoutStatus.PENDING:
            return view
        world.clock.advance(seconds=seconds)
    raise AssertionError("the checkout is stuck")


def living(world: World) -> list[str]:
    """The customers that Stripe has and did not delete."""
    return [one["id"] for one in world.objects("customer") if not one.get("deleted")]


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        *UNCLEAR,
        ("save_500_with_effect", {}),
        ("save_500_without_effect", {}),
        ("status", {"status": 400, "code": "idempotency_error"}),
    ],
)
def test_concurrent_first_checkouts_with_unclear_answers_make_one_customer(
    world: World, kind: str, fields: dict[str, Any]
) -> None:
    """CHK-8, SUB-142: whatever becomes of the first POSTs, one customer in the ledger and the same one at Stripe."""
    world.sandbox.faults.add(kind, method="POST", path=CUSTOMERS, times=3, **fields)
    view = storm(world, world.ask())
    assert view.status is CheckoutStatus.OPEN
    assert living(world) == [row(world).customer_id]
    assert len(world.sessions("open")) == 1


def test_customer_that_a_saved_500_made_is_found_although_the_list_lags(world: World) -> None:
    """CHK-8: lists promise no read-after-write: the key is not given up at the first look, nor at the second."""
    world.sandbox.faults.add("save_500_with_effect", method="POST", path=CUSTOMERS)
    world.sandbox.faults.add("stale_list", method="GET", path=CUSTOMERS, seconds=3600, times=3)
    view = storm(world, world.ask(), seconds=5)
    assert view.status is CheckoutStatus.OPEN
    assert living(world) == [row(world).customer_id]


@pytest.mark.parametrize("made", [True, False])
def test_key_that_stripe_may_have_forgotten_is_not_sent_again(world: World, made: bool) -> None:
    """CHK-8: a day later what the first POST made is looked for; only if it made nothing there is a new key."""
    world.sandbox.faults.add("drop_after" if made else "drop_before", method="POST", path=CUSTOMERS)
    checkout_id = world.ask()
    world.work_lane()
    first = row(world).idempotency_key
    world.clock.advance(hours=25)
    assert storm(world, checkout_id).status is CheckoutStatus.OPEN
    assert living(world) == [row(world).customer_id]
    assert (row(world).idempotency_key == first) is made
    sent = [one["idempotency_key"] for one in world.requests("POST", "/v1/customers")]
    assert sent.count(first) == 1


def test_worker_whose_key_was_replaced_meanwhile_gives_its_customer_to_nobody(world: World) -> None:
    """CHK-8: a compare-and-set on the key."""
    world.ask()
    with world.database.write() as connection:
        customers_store.note_request(connection, "user_1", now=world.clock.now())
        old = customers_store.read_customer(connection, "user_1")
        assert old is not None
        customers_store.renew_key(connection, old)
        assert not customers_store.set_customer(connection, old, "cus_late")
    assert row(world).customer_id is None


def test_key_is_renewed_for_one_user_alone(world: World) -> None:
    """CHK-8: and the compare-and-set tells that it hit."""
    world.ask(user="user_1")
    world.ask(user="user_2")
    with world.database.write() as connection:
        old = customers_store.read_customer(connection, "user_1")
        other = customers_store.read_customer(connection, "user_2")
        assert old is not None
        customers_store.renew_key(connection, old)
        renewed = customers_store.read_customer(connection, "user_1")
        assert renewed is not None
        assert renewed.idempotency_key != old.idempotency_key
        assert customers_store.read_customer(connection, "user_2") == other
        assert customers_store.set_customer(connection, renewed, "cus_1")


def test_customer_that_is_claimed_just_before_the_first_request_is_not_made_again(world: World) -> None:
    """CHK-14, CHK-8: the import commits between a worker's first look and its write-ahead."""
    world.ask()
    requested, claims = customers_store.note_request, []

    def claim_first(connection: sa.Connection, user_id: str, **options: Any) -> None:
        if not claims:
            claims.append(
                customers_store.claim(connection, user_id=user_id, customer_id="cus_imported", now=world.clock.now())
            )
        requested(connection, user_id, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(customers_store, "note_request", claim_first)
        made = ensure_customer("user_1", database=world.database, stripe=world.stripe, clock=world.clock)
    assert (made, row(world).customer_id) == ("cus_imported", "cus_imported")
    assert world.objects("customer") == []


def test_email_that_stripe_does_not_take_is_left_out(world: World) -> None:
    """CHK-5: the row is kept for ever; with an address that Stripe refuses it would refuse the user for ever."""
    with world.database.write() as connection:
        customers_store.open_customer(connection, user_id="user_1", email="nobody@nowhere", now=world.clock.now())
    create = world.stripe.create_customer

    def picky(parameters: Any, *, idempotency_key: str) -> str:
        sent = {**parameters, "email": "x" * 600} if "email" in parameters else parameters  # too long for the sandbox
        return create(sent, idempotency_key=idempotency_key)

    world.stripe.create_customer = picky  # type: ignore[method-assign]
    assert storm(world, world.ask()).status is CheckoutStatus.OPEN
    assert [one["email"] for one in world.objects("customer")] == [None]


# --- a customer that Stripe deleted


def delete_customer(world: World) -> str:
    """Somebody deletes the user's customer in the dashboard; its id."""
    customer_id = str(row(world).customer_id)
    assert world.sandbox.request("DELETE", f"/v1/customers/{customer_id}").status == 200
    return customer_id


@pytest.mark.parametrize("minutes", [0, 20])
def test_buyer_whose_customer_was_deleted_gets_a_new_one(world: World, minutes: float) -> None:
    """CHK-17, CHK-8: one new customer and one open session, however many workers find out at once."""
    world.served()
    old = delete_customer(world)
    world.clock.advance(minutes=minutes)
    view = storm(world, world.ask("commit"))
    assert view.status is CheckoutStatus.OPEN
    assert living(world) == [row(world).customer_id] != [old]
    (session,) = world.sessions("open")
    assert (session["id"], session["customer"]) == (view.session_id, row(world).customer_id)


def test_deleted_customer_is_noticed_by_refused_lists_too(world: World) -> None:
    """CHK-17: Stripe may refuse to list for a deleted customer, before anything is created."""
    world.served()
    old = delete_customer(world)
    real = world.stripe.list_sessions

    def list_sessions(customer_id: str, **options: Any) -> Any:
        return real("cus_never" if customer_id == old else customer_id, **options)

    world.stripe.list_sessions = list_sessions  # type: ignore[method-assign]
    assert storm(world, world.ask()).status is CheckoutStatus.OPEN
    assert living(world) == [row(world).customer_id]
    assert len(world.sessions("open")) == 1


@pytest.mark.parametrize("kind", ["drop_before", "drop_after", "save_500_with_effect", "save_500_without_effect"])
def test_new_customer_is_one_although_its_creation_was_unclear(world: World, kind: str) -> None:
    """CHK-17, CHK-8: written ahead with a key of its own, like the first."""
    world.served()
    delete_customer(world)
    world.sandbox.faults.add(kind, method="POST", path=CUSTOMERS, times=2)
    assert storm(world, world.ask("commit")).status is CheckoutStatus.OPEN
    assert living(world) == [row(world).customer_id]
    keys = {one["idempotency_key"] for one in world.requests("POST", "/v1/customers")}
    assert len(keys) == (3 if kind == "save_500_without_effect" else 2)


def test_application_hears_that_the_deleted_customers_subscription_ended(world: World) -> None:
    """CHK-17: by the user's name, although no event has come and the user's customer is another one now."""
    first = world.served()
    world.sandbox.pay(str(first.session_id))
    world.clock.advance(hours=26)
    delete_customer(world)
    assert storm(world, world.ask()).status is CheckoutStatus.OPEN
    with world.database.read() as connection:
        payloads = list(connection.scalars(sa.select(outbox.c.payload)))
    assert [one["user_id"] for one in payloads] == ["user_1"]


def test_session_that_was_paid_after_its_customer_was_deleted_still_blocks(world: World) -> None:
    """CHK-17, LAN-20: the page was open; Checkout made a customer that nobody here knows."""
    first = world.served()
    delete_customer(world)
    world.sandbox.pay(str(first.session_id))
    view = storm(world, world.ask("commit"))
    assert view.status is CheckoutStatus.REFUSED
    assert len(world.objects("subscription")) == 1


def test_customer_that_stripe_never_had_is_left_to_a_person(world: World) -> None:
    """CHK-17: a typing error of an import; a live subscription may stand behind the right id."""
    claim_customer("user_1", "cus_typo", database=world.database, clock=world.clock)
    view = storm(world, world.ask())
    assert view.status is CheckoutStatus.FAILED
    assert (row(world).customer_id, world.objects("customer")) == ("cus_typo", [])


def test_erased_users_customer_stays_known(world: World) -> None:
    """CHK-17, fault 77: late events of it must be told from others'; the checkout fails instead of going round."""
    world.served()
    old = delete_customer(world)
    with world.database.write() as connection:
        connection.execute(sa.update(customers).values(erased_at=world.clock.now()))
    assert storm(world, world.ask("commit")).status is CheckoutStatus.FAILED
    assert row(world).customer_id == old


@pytest.mark.parametrize("gone", ["deleted", "never was"])
def test_customer_that_stripe_does_not_have_gives_way_to_the_right_one(world: World, gone: str) -> None:
    """CHK-42: an empty one, since a page was looked at before the import; or a typing error of the import."""
    right = str(world.sandbox.request("POST", "/v1/customers").body["id"])
    world.sandbox.give_card(right)
    wanted = {"customer": right, "items": [{"price": world.catalog.plans["standard"].price}]}
    assert world.sandbox.request("POST", "/v1/subscriptions", wanted).status == 200
    if gone == "deleted":
        world.served()
        wrong = str(row(world).customer_id)
    else:
        wrong = "cus_typo"
        claim_customer("user_1", wrong, database=world.database, clock=world.clock)
    with pytest.raises(CustomerTaken):
        claim_customer("user_1", right, database=world.database, clock=world.clock)
    if gone == "deleted":
        delete_customer(world)
    known = {name: place for name, place in world.collaborators().items() if name in SyncContext.__slots__}
    sync_customer(wrong, SyncContext(**known))
    claim_customer("user_1", right, database=world.database, clock=world.clock)
    world.sync_taken_over()
    assert row(world).customer_id == right
    seen = read_subscription("user_1", database=world.database, catalog=world.catalog, clock=world.clock)
    assert seen["access"]["granted"] is True
    assert storm(world, world.ask()).status is CheckoutStatus.REFUSED


def test_user_who_was_erased_gets_no_other_customer(world: World) -> None:
    """CHK-42, SUB-55"""
    world.served()
    wrong = delete_customer(world)
    known = {name: place for name, place in world.collaborators().items() if name in SyncContext.__slots__}
    sync_customer(wrong, SyncContext(**known))
    with world.database.write() as connection:
        connection.execute(sa.update(customers).values(erased_at=world.clock.now()))
    with pytest.raises(UserErased):
        claim_customer("user_1", "cus_2", database=world.database, clock=world.clock)
    assert row(world).customer_id == wrong
