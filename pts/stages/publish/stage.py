"""The stage `publish`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pts.stages.publish.inputs import PLACEHOLDER, PublishInputs
from pts.stages.stage import Context, Observer, Plan, Report, Source, Stage

if TYPE_CHECKING:
    from pts.publishing.contents import Contents
    from pts.publishing.hub import Published


def _plan(inputs: PublishInputs, _context: Context) -> Plan:
    """What a publication will do. Raises ConfigError for a push without a token."""
    from pts.stages.publish.run import hub_api

    if not inputs.push:
        return Plan(f"publish: shows files and card of {inputs.path}, and sends nothing.")
    hub_api(inputs.token_from_env)
    return Plan(f"publish: pushes {inputs.path} to {inputs.repo_type} {inputs.repo_id}.")


def _run(inputs: PublishInputs, observe: Observer | None) -> Contents | Published:
    """Push, or read what would be pushed. The Hub's client shows its own progress where somebody observes."""
    from pts.stages.publish.run import run_publish

    return run_publish(inputs, bars=observe is not None)


def _report(inputs: PublishInputs, result: Contents | Published) -> Report:
    from pts.publishing.hub import Published

    if isinstance(result, Published):
        return _published(result)
    return _preview(inputs, result)


def _preview(inputs: PublishInputs, contents: Contents) -> Report:
    """What would be published: the files with their sizes, and the card."""
    target = inputs.target()
    files = "\n".join(f"  {size:>13,} bytes  {name}" for name, size in contents.sizes.items())
    heading = f"{contents.summary}\nto {target.repo_type} {target.repo_id}, {target.branch}:"

    def data() -> dict[str, object]:
        return {
            "repo_id": target.repo_id,
            "repo_type": target.repo_type,
            "kind": contents.kind,
            "summary": contents.summary,
            "files": contents.sizes,
            "card": contents.card,
        }

    return Report(f"{heading}\n{files}\n\n{contents.card}".removesuffix("\n"), data=data)


def _published(published: Published) -> Report:
    """Where it was published, and as what version."""
    commit = published.commit[:8]
    same = "" if published.committed else "the same content was there already, in "
    lines = [published.pull_request or published.url, f"{same}commit {commit}"]
    if published.tag is not None:
        lines.append(f"tag {published.tag}{'' if published.tagged else ', as before'}")

    def data() -> dict[str, object]:
        return {
            "url": published.url,
            "commit": published.commit,
            "committed": published.committed,
            "tag": published.tag,
            "tagged": published.tagged,
            "pull_request": published.pull_request,
        }

    return Report("\n".join(lines), data=data)


def _hint(inputs: PublishInputs) -> str | None:
    """How to send what a recipe has shown; None where it was sent."""
    if inputs.push:
        return None
    named = "" if inputs.repo_id else f" --set publish.repo_id={PLACEHOLDER}"
    return f"Nothing was sent; --set publish.push=true{named} publishes this."


def _resume_note(_inputs: PublishInputs) -> str:
    from pts.publishing.hub_errors import AGAIN

    return f"{AGAIN[0].lower()}{AGAIN[1:]}."


STAGE: Stage[PublishInputs, Contents | Published] = Stage(
    name="publish",
    summary="Publish a vector set, a search run or a trained model on the Hugging Face Hub.",
    inputs=PublishInputs,
    plan=_plan,
    run=_run,
    report=_report,
    takes={
        "path": Source(
            ("search", "merge", "extract-vectors", "train-adaptthink", "train-length", "train-shorten")
        )
    },
    recipe_hint=_hint,
    resume_note=_resume_note,
)
