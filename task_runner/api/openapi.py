"""What is generated from the routes for the documentation: the description, and a page of it.

    python -m task_runner.api.openapi > doc/reference/openapi.json
    python -m task_runner.api.openapi markdown > doc/reference/api.md
"""

from __future__ import annotations

import json
import sys
from typing import Any

from task_runner.api import v1
from task_runner.api.description import markdown
from task_runner.api.description.document import describe


def description() -> dict[str, Any]:
    """OpenAPI of the surface `/v1`."""
    return describe(v1.SURFACE.routes)


def document() -> str:
    """doc/reference/openapi.json."""
    return json.dumps(description(), indent=2, ensure_ascii=False)


def page() -> str:
    """doc/reference/api.md."""
    return markdown.render(description())


if __name__ == "__main__":
    print(page() if sys.argv[1:] == ["markdown"] else document())
