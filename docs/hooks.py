"""For MkDocs: what a page links to outside docs/ is named, not linked, since a site of docs/ does not have it."""

import re
from typing import Any

OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+([^)#]+)(?:#[^)]*)?\)")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Put the file's path in the place of a link that leaves docs/."""
    depth = page.file.src_uri.count("/")

    def named(found: re.Match[str]) -> str:
        leaves = found[0].count("../") > depth
        return f"{found[1]} (`{found[2]}`)" if leaves else found[0]

    return OUTSIDE.sub(named, markdown)
