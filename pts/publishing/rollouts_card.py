"""The card of a search's rollouts, as a file of their own."""

from __future__ import annotations

from pts.publishing.card_text import base_model, front_matter, marked, parquet_configs, render, size_category
from pts.runs.rollout_table import FIELDS
from pts.runs.search_run import SearchResults
from pts.runs.search_summary import search_summary


def rollouts_card(run: SearchResults, file: str, rows: int) -> str:
    """The card that goes beside the table `file` of a run's rollouts, header included. Raises RunError."""
    text = render(
        "rollouts.md.j2",
        header=front_matter(
            base_model=base_model(run.resolved.model_id, run.resolved.model_revision),
            tags=["pts", "pivotal-token-search", "rollouts"],
            size_categories=[size_category(rows)],
            configs=parquet_configs({"default": file}),
        ),
        file=file,
        rows=rows,
        summary=search_summary(run),
        sampling=run.manifest.settings.get("sampling"),
        fields=FIELDS,
    )
    return marked(text)
