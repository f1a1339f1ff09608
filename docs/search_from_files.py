"""A hook of mkdocs: the search works in pages that are opened from the file system.

There a browser gives a page neither the index by fetch nor a worker of another file. The theme then looks for a script
that sets `__index`; this writes it, and a second one that makes the worker from its source in memory.
"""

import json
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority

WORKER = "search/worker.js"
FROM_MEMORY = """\
if (location.protocol === "file:") {{
  const source = {source}
  const FromFile = Worker
  window.Worker = function () {{
    return new FromFile(URL.createObjectURL(new Blob([source], {{type: "text/javascript"}})))
  }}
}}
"""


def on_config(config: MkDocsConfig) -> None:
    config.extra["polyfills"] = [WORKER]  # the theme loads these before its own scripts


@event_priority(-100)  # the index has been written then
def on_post_build(config: MkDocsConfig) -> None:
    site = Path(config.site_dir)
    (worker,) = site.glob("assets/javascripts/workers/search.*.js")
    (site / WORKER).write_text(FROM_MEMORY.format(source=json.dumps(worker.read_text("utf-8"))), "utf-8")
    index = (site / "search/search_index.json").read_text("utf-8")
    (site / "search/search_index.js").write_text(f"var __index = {index}", "utf-8")
