"""Fixtures that every test may ask for; the parts of a package's own tests live in its folder."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from billing.database import Database
from billing.process import marks
from tests.support.databases import Postgres, running_postgres, sqlite_in


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The run's PostgreSQL."""
    with running_postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A migrated ledger: each test that asks for it runs on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        with sqlite_in(tmp_path) as ledger:
            yield ledger
    else:
        with request.getfixturevalue("postgres").fresh() as ledger:
            yield ledger


# What `make test` leaves to `make check` (decision 0023), by the beginning of a test's id. A walk over every crash or
# every failure runs on SQLite in `make test`, and on PostgreSQL in `make check`; those of duplicates only there.
LONG = (
    "tests/app/bodies/test_reading.py::test_whatever_a_body_says",
    "tests/app/cli/test_commands.py::test_doctor_finds",
    "tests/app/cli/test_commands.py::test_import",
    "tests/app/cli/test_commands.py::test_reads_speak",
    "tests/app/cli/test_commands.py::test_worker_without",
    "tests/app/cli/test_commands.py::test_wrong_command_line",
    "tests/app/cli/test_commands.py::test_wrong_setting_ends",
    "tests/app/cli/test_database_url.py",
    "tests/app/cli/test_erase.py",
    "tests/app/cli/test_metrics_dir.py",
    "tests/app/cli/test_reconcile.py",
    "tests/app/cli/test_redis_at_start.py",
    "tests/app/cli/test_replays.py",
    "tests/app/cli/test_server_url.py",
    "tests/app/cli/test_signals.py",
    "tests/app/cli/test_strange_homes.py",
    "tests/app/cli/test_troubles.py",
    "tests/app/cli/test_webhooks.py",
    "tests/app/dev/test_canary.py",
    "tests/app/dev/test_events.py",
    "tests/app/dev/test_identity.py",
    "tests/app/dev/test_purchase_lines.py",
    "tests/app/dev/test_refusals.py",
    "tests/app/dev/test_run.py",
    "tests/app/dev/test_web.py",
    "tests/app/health/test_routes.py::test_part_that_hangs",
    "tests/app/health/test_routes.py::test_processes_that_share",
    "tests/app/openapi/test_typescript.py",
    "tests/app/serving/test_connections.py",
    "tests/app/serving/test_nginx.py",
    "tests/app/serving/test_server.py",
    "tests/app/test_contract.py",
    "tests/bench/",
    "tests/billing/checkout/test_lane_faults.py::test_crash_at_any_step_is_resumed_by_running_again[postgresql",
    "tests/billing/checkout/test_lane_faults.py::test_unclear_answer_to_a_creation_is_sent_again_with_the_same_key[postgresql",
    "tests/billing/checkout/test_passes.py::test_sessions_that_vanish_as_soon_as_they_are_made_are_not_made_without_end[postgresql",
    "tests/billing/checkout/test_passes.py::test_thousand_buyers",
    "tests/billing/coordination/test_acl.py",
    "tests/billing/coordination/test_tls.py",
    "tests/billing/customers/test_customers.py::test_concurrent_first_checkouts_with_unclear_answers_make_one_customer[postgresql",
    "tests/billing/database/test_address.py::test_server_that_does_not_answer_may_come",
    "tests/billing/database/test_ends.py::test_host_that_dies_without_a_word_is_given_up_and_found_again[idle",
    "tests/billing/database/test_poolers.py::test_pooler_that_cannot_serve_us_is_refused_at_the_start[sessions, and",
    "tests/billing/database/test_poolers.py::test_statement_that_gets_no_place",
    "tests/billing/duplicates/test_remedy_failures.py::test_crash_at_every_step",
    "tests/billing/duplicates/test_remedy_failures.py::test_failure_in_passing_is_tried_again_by_the_sweep[postgresql",
    "tests/billing/duplicates/test_repayments.py::test_crash_at_every_step_gives_back_once",
    "tests/billing/duplicates/test_repayments.py::test_unclear_answer_is_looked_at_before_more_is_given[postgresql",
    "tests/billing/maintenance/test_reconcile.py::test_nothing_was_delivered_at_all[postgresql",
    "tests/billing/maintenance/test_reconcile_interrupted.py::test_killed_at_any_point_the_next_one_goes_on[postgresql",
    "tests/billing/maintenance/test_reconcile_interrupted.py::test_killed_once_at_this_point[postgresql",
    "tests/billing/maintenance/test_reconcile_interrupted.py::test_run_in_slices_goes_on_where_it_was[postgresql",
    "tests/billing/maintenance/test_replay_run.py::test_run_sets_everything_back_in_batches_and_holds_no_thread[postgresql",
    "tests/billing/maintenance/test_replay_run.py::test_stopped_run_sets_nothing_more_back[postgresql",
    "tests/billing/notifications/test_handlers.py::test_worker_without_its_handlers",
    "tests/billing/operations/test_carried.py::test_operations_change_nothing_but_the_plans_price_and_its_dates[postgresql",
    "tests/billing/operations/test_crashes.py::test_crash_at_every_step_is_finished_by_running_it_again",
    "tests/billing/operations/test_crashes.py::test_failure_in_passing",
    "tests/billing/operations/test_crashes.py::test_worker_that_slept_with_an_old_call_in_hand_changes_nothing[postgresql",
    "tests/billing/operators/test_erase_crashes.py::test_checkout_at_any_step_of_an_erasure_leaves_no_page[postgresql",
    "tests/billing/operators/test_erase_crashes.py::test_erasure_at_any_step_of_a_checkout_leaves_no_page[postgresql",
    "tests/billing/operators/test_erase_crashes.py::test_run_that_is_killed_anywhere",
    "tests/billing/operators/test_erase_crashes.py::test_what_was_begun_is_never_taken_back",
    "tests/billing/operators/test_incident.py::test_crash_at_every_step_of_a_choice",
    "tests/billing/operators/test_report.py::test_report_and_locks_need_no_redis",
    "tests/billing/operators/test_report.py::test_tail_shows",
    "tests/billing/process/test_telemetry.py::test_error_is_reported",
    "tests/billing/process/test_telemetry.py::test_nothing_is_loaded",
    "tests/billing/process/test_telemetry.py::test_request_and_its_message",
    "tests/billing/stripe_gateway/test_pace.py::test_refused_processes",
    "tests/billing/stripe_gateway/test_pace.py::test_workers_settle",
    "tests/billing/stripe_gateway/test_shared_budget.py::test_four_processes",
    "tests/billing/webhooks/test_envelope_fuzz.py::test_made_up_body",
    "tests/billing/webhooks/test_followed.py::test_any_followed_event_alone_brings_the_projection_up_to_date[postgresql",
    "tests/billing/webhooks/test_trickle.py",
    "tests/browser/",
    "tests/docs/test_deployment.py::test_built_package",
    "tests/docs/test_deployment.py::test_health_check_of_redis",
    "tests/docs/test_readme.py::test_curl",
    "tests/docs/test_snippets.py::test_commands_work",
    "tests/kills/",
    "tests/onelane/test_main.py::test_processes_of_the_web",
    "tests/onelane/test_main.py::test_worker_finds_handlers",
    "tests/onelane/test_testing.py",
    "tests/races/",
    "tests/sandbox/test_parameters.py::test_no_",
    "tests/sandbox/test_parameters.py::test_what_stripe_",
    "tests/worker/test_consumer.py::test_broker_that_goes_away",
    "tests/worker/test_consumer.py::test_delayed_job",
    "tests/worker/test_consumer.py::test_forged_message",
    "tests/worker/test_consumer.py::test_signal_finishes_the_work_in_hand_and_leaves_the_rest_in_the_queue",
    "tests/worker/test_consumer.py::test_what_is_no_message",
    "tests/worker/test_consumer.py::test_worker_outlives",
    "tests/worker/test_rabbitmq.py",
    "tests/worker/test_schedule.py::test_beat_whose_broker_takes_no_writes",
    "tests/worker/test_schedule.py::test_two_beats_send",
    "tests/worker/test_starting.py::test_worker_waits_for_a_stripe",
)
# One of each kind of them that `make test` runs all the same.
SHORT = (
    "tests/app/cli/test_commands.py::test_wrong_setting_ends_with_78_and_one_line[words0",
    "tests/app/cli/test_server_url.py::test_unknown_parameter_stops_every_process_alike[REDIS_URL-worker]",
    "tests/app/cli/test_signals.py::test_migration_that_waits_for_another_hears_the_signal[15]",
    "tests/app/dev/test_run.py::test_everything_is_ready_when_it_says_so",
    "tests/app/serving/test_server.py::test_web_that_is_told_to_stop_answers",
    "tests/billing/coordination/test_acl.py::test_server_that_is_away",
    "tests/billing/operations/test_crashes.py::test_crash_at_every_step_is_finished_by_running_it_again[sqlite-switch]",
    "tests/billing/operators/test_erase_crashes.py::test_what_was_begun_is_never_taken_back[sqlite-one batch-True]",
    "tests/browser/test_shop.py::test_buyer_chooses_pays_and_has_access",
    "tests/sandbox/test_parameters.py::test_no_parameter_is_taken_and_forgotten[POST /v1/checkout/sessions",
    "tests/sandbox/test_parameters.py::test_no_parameter_is_taken_and_forgotten[POST /v1/subscriptions",
    "tests/sandbox/test_parameters.py::test_no_value_of_a_parameter_is_a_mistake_of_the_sandboxs[POST /v1/checkout/",
    "tests/sandbox/test_parameters.py::test_what_stripe_has_and_the_sandbox_does_not_is_a_501[POST /v1/checkout/",
)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not even import files that `make test` leaves out whole: hypothesis, schemathesis and mutants take seconds."""
    path = collection_path.relative_to(config.rootpath).as_posix()
    whole = f"{path}/".startswith(LONG) and not any(one.startswith(path) for one in SHORT)
    return True if whole and config.option.markexpr == "not long" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what takes long."""
    for item in items:
        if item.nodeid.startswith(LONG) and not item.nodeid.startswith(SHORT):
            item.add_marker(pytest.mark.long)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> None:
    """Load the plugin of schemathesis for the file that needs it: with hypothesis it takes two seconds to start."""
    if file_path.name == "test_contract.py":
        parent.config.pluginmanager.import_plugin("schemathesis.pytest.plugin")


# What starts many processes or a browser: one at a time each, on one worker of `pytest -n`.
ONE_WORKER = {
    "tests/app/cli/test_troubles.py": "troubles",
    "tests/app/dev/": "processes",
    "tests/bench/": "processes",
    "tests/kills/": "kills",  # mostly waits: beside the others it costs little
    "tests/browser/": "browser",
    "tests/app/serving/test_server.py": "server",
    "tests/app/serving/test_strangers.py": "server",
}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep groups together by path: xdist 3.8 loses its own groups (`xdist_group`) under pytest 9.2."""
    from xdist.scheduler import LoadScopeScheduling

    class ByPath(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return next((group for path, group in ONE_WORKER.items() if nodeid.startswith(path)), nodeid)

    return ByPath(config, log)


@pytest.fixture(autouse=True)
def nothing_left_over() -> None:
    """What an earlier test of this process noted and has not written: refused deliveries, and a log line's ids."""
    marks.take()
    structlog.contextvars.clear_contextvars()
