"""`pts push-to-hub`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from pts.cli.interrupts import Stopped
from pts.cli.logs import log_to_stderr
from pts.publishing.contents import Contents, read_contents
from pts.publishing.hub import Published, publish
from pts.publishing.hub_errors import AGAIN
from pts.publishing.target import RepoType, Target
from pts.stages.publish.run import hub_api


@click.command("push-to-hub")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--repo-id", required=True, metavar="OWNER/NAME", help="Repository, made where it is not there.")
@click.option("--repo-type", type=click.Choice(["dataset", "model"]), default="dataset", show_default=True)
@click.option("--private", is_flag=True, help="Make a new repository private.")
@click.option("--revision", metavar="BRANCH", help="Branch that gets the commit.  [default: main]")
@click.option("--create-pr", is_flag=True, help="Open a pull request instead.")
@click.option("--tag", "--version", "tag", help="Tag of this version.  [default: the next free of v1, v2, ...]")
@click.option("--license", "license_id", metavar="ID", help="Licence that the card names, such as apache-2.0.")
@click.option(
    "--token-from-env",
    metavar="NAME",
    help="Environment variable with the token.  [default: HF_TOKEN, or that of `hf auth login`]",
)
@click.option("--dry-run", is_flag=True, help="Show files and card; needs no token and no network.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def push_to_hub_command(
    path: Path,
    repo_id: str,
    repo_type: RepoType,
    private: bool,
    revision: str | None,
    create_pr: bool,
    tag: str | None,
    license_id: str | None,
    token_from_env: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Publish the vector set or the search run at PATH on the Hugging Face Hub.

    One commit, whole or not at all, with a card and a version's tag. The same command again changes nothing,
    and finishes what a lost connection left.
    """
    log_to_stderr(0, quiet=False)
    target = Target(repo_id, repo_type, private, revision, create_pr, tag, license_id)
    contents = read_contents(path, target)
    if dry_run:
        print_plan(contents, target, as_json)
        return
    quiet_client(bars=sys.stderr.isatty() and not as_json)
    try:
        published = publish(contents, target, hub_api(token_from_env))
    except Stopped as stopped:
        stopped.note = f"{AGAIN[0].lower()}{AGAIN[1:]}."
        raise
    print_published(published, as_json)


def quiet_client(bars: bool) -> None:
    """Keep the Hub's client to itself, but for its progress bars where a person watches."""
    from huggingface_hub import logging
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    if not bars:
        disable_progress_bars()


def print_plan(contents: Contents, target: Target, as_json: bool) -> None:
    """Print what would be published: the files with their sizes, and the card."""
    if as_json:
        plan = {
            "repo_id": target.repo_id,
            "repo_type": target.repo_type,
            "kind": contents.kind,
            "summary": contents.summary,
            "files": contents.sizes,
            "card": contents.card,
        }
        click.echo(json.dumps(plan, ensure_ascii=False))
        return
    click.echo(f"{contents.summary}\nto {target.repo_type} {target.repo_id}, {target.branch}:")
    for name, size in contents.sizes.items():
        click.echo(f"  {size:>13,} bytes  {name}")
    click.echo(f"\n{contents.card}", nl=False)


def print_published(published: Published, as_json: bool) -> None:
    """Print where it was published, and as what version."""
    if as_json:
        result = {
            "url": published.url,
            "commit": published.commit,
            "committed": published.committed,
            "tag": published.tag,
            "tagged": published.tagged,
            "pull_request": published.pull_request,
        }
        click.echo(json.dumps(result))
        return
    click.echo(published.pull_request or published.url)
    if not published.committed:
        click.echo(f"the same content was there already, in commit {published.commit[:8]}")
    else:
        click.echo(f"commit {published.commit[:8]}")
    if published.tag is not None:
        click.echo(f"tag {published.tag}{'' if published.tagged else ', as before'}")
