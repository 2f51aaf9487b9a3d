"""`pts push-to-hub`."""

from __future__ import annotations

from pathlib import Path

import click

from pts.cli.logs import log_to_stderr
from pts.cli.stage_run import run_command_stage
from pts.publishing.target import RepoType


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
    given = {
        "path": path,
        "push": not dry_run,
        "repo_id": repo_id,
        "repo_type": repo_type,
        "private": private,
        "revision": revision,
        "create_pr": create_pr,
        "tag": tag,
        "license": license_id,
        "token_from_env": token_from_env,
    }
    run_command_stage("publish", given, quiet=False, as_json=as_json)
