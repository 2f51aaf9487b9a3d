"""`pts push-to-hub`."""

from __future__ import annotations

from pathlib import Path

import click

from pts.cli.logs import log_to_stderr
from pts.cli.stage_run import run_command_stage
from pts.publishing.target import RepoType


@click.command("push-to-hub")
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--repo-id", required=True, metavar="OWNER/NAME", help="Repository; created if it does not exist."
)
@click.option(
    "--repo-type",
    type=click.Choice(["dataset", "model"]),
    default="dataset",
    show_default=True,
    help="Kind of a new repository.",
)
@click.option("--private", is_flag=True, help="Make a new repository private.")
@click.option("--revision", metavar="BRANCH", help="Branch to commit to.  [default: main]")
@click.option("--create-pr", is_flag=True, help="Open a pull request instead of committing.")
@click.option(
    "--tag", "--version", "tag", help="Tag of this version.  [default: the next free one of v1, v2, ...]"
)
@click.option("--license", "license_id", metavar="ID", help="Licence to name in the card, such as apache-2.0.")
@click.option(
    "--token-from-env",
    metavar="NAME",
    help="Environment variable that holds the token.  [default: HF_TOKEN, or that of `hf auth login`]",
)
@click.option("--rollouts", is_flag=True, help="Publish the graded rollouts of a search run, too.")
@click.option(
    "--dry-run",
    is_flag=True,
    help="Show the files and the card without publishing. Needs no token and no network.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
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
    rollouts: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Publish a vector set, a search run or a trained model on the Hugging Face Hub.

    PATH is its directory. All files and the card go into one commit, which gets a version's tag. If the
    connection is lost, give the same command again.
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
        "rollouts": rollouts,
    }
    run_command_stage("publish", given, quiet=False, as_json=as_json)
