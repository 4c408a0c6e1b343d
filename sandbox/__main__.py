"""`python -m sandbox`: the sandbox as a process of its own."""

from pathlib import Path

import click

from .server import serve


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=12111, show_default=True, type=click.IntRange(0, 65535))
@click.option("--state", type=click.Path(path_type=Path), help="Keep the state in this SQLite file.")
@click.option("--webhook-url", envvar="SANDBOX_WEBHOOK_URL", help="Where events are sent.")
@click.option("--webhook-secret", envvar="SANDBOX_WEBHOOK_SECRET", help="What they are signed with.")
@click.option("--seed", type=click.Path(exists=True, path_type=Path), help="JSON list of objects to begin with.")
@click.option("--public-url", help="How browsers reach the sandbox, when it is not by its own address.")
def main(
    host: str,
    port: int,
    state: Path | None,
    webhook_url: str | None,
    webhook_secret: str | None,
    seed: Path | None,
    public_url: str | None,
) -> None:
    """A Stripe that keeps state, for any Stripe SDK."""
    if webhook_url and not webhook_secret:
        raise click.UsageError("--webhook-url needs --webhook-secret")
    serve(
        host=host,
        port=port,
        state_path=state,
        webhook_url=webhook_url,
        webhook_secret=webhook_secret,
        seed_path=seed,
        public_url=public_url,
    )


if __name__ == "__main__":
    main()
