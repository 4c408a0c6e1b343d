"""`python -m app` is `onelane`."""

from app.cli import main

main(prog_name="onelane")
