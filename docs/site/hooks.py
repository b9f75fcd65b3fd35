"""Makes the site's first page of the README, and a page of the notebook with what its cells show.

The README's links are those of the repository's root.
"""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = "first_steps"
# What the site does not hold is named by its path in the repository, without a link.
DOCS_FILE = re.compile(r"`docs/(\w+)\.md`")
# What the tests are told of a block, behind its language: the site's Markdown takes none of it.
BLOCK = re.compile(r"^(```\w+) [\w ]+$", re.MULTILINE)
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the first page, the notebook's, and the notebook itself."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    files.append(File.generated(config, "index.md", content=from_docs(text)))
    source = (ROOT / "docs" / "examples" / f"{NOTEBOOK}.ipynb").read_text(encoding="utf-8")
    page, images = notebook_page(json.loads(source))
    files.append(File.generated(config, f"{NOTEBOOK}.md", content=page))
    files.append(File.generated(config, f"{NOTEBOOK}.ipynb", content=source))
    for name, content in images.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Name files outside docs/ by their path, and lead to the notebook's page."""
    return LINK.sub(_without_way_up, BLOCK.sub(r"\1", markdown))


def from_docs(text: str) -> str:
    """Return the README's text with its links seen from docs/."""
    return LINK.sub(_seen_from_docs, text)


def notebook_page(notebook: dict[str, Any]) -> tuple[str, dict[str, bytes]]:
    """Return a notebook as a page, and its images by name: prose, code, and what came of it."""
    images: dict[str, bytes] = {}
    parts: list[str] = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(DOCS_FILE.sub(r"[\1.md](\1.md)", source))
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            if "text" in output and (text := "".join(output["text"]).strip("\n")):
                parts.append(f"```text\n{text}\n```")
            elif image := output.get("data", {}).get("image/png"):
                name = f"images/{NOTEBOOK}_{len(images) + 1}.png"
                images[name] = base64.b64decode("".join(image))
                parts.append(f"![what the cell above draws]({name})")
    parts[0] += (
        f"\n\n[The notebook itself]({NOTEBOOK}.ipynb): open it with Jupyter, or run it anywhere."
    )
    return "\n\n".join(parts) + "\n", images


def _seen_from_docs(link: re.Match[str]) -> str:
    mark, shown, target = link.groups()
    if "://" in target or target.startswith("#"):
        return link[0]
    if target == f"docs/examples/{NOTEBOOK}.ipynb":
        return f"{mark}[{shown}]({NOTEBOOK}.md)"
    if target.startswith("docs/"):
        return f"{mark}[{shown}]({target.removeprefix('docs/')})"
    return f"`{target}`"


def _without_way_up(link: re.Match[str]) -> str:
    mark, shown, target = link.groups()
    if target == f"examples/{NOTEBOOK}.ipynb":
        return f"{mark}[{shown}]({NOTEBOOK}.md)"
    if target.startswith("examples/"):
        return f"`docs/{target}`"
    return f"`{target.removeprefix('../')}`" if target.startswith("../") else link[0]
