"""A fitted router as a table."""

from __future__ import annotations

from pts.decoding.routers.fitted import FittedRouter, Probe, RouterClass

_HEAD = f"{'':10}{'class':>6}{'success':>9}{'tokens':>8}{'share':>7}{'Brier':>8}{'log loss':>10}{'AUC':>7}"
CHOSEN = (
    "Layer, penalties and price were chosen on the same held-out problems: what the router gains is measured "
    "on others, by pts eval."
)


def router_report(router: FittedRouter) -> str:
    """Each class's measured success and tokens, its share of held-out problems and how well it is predicted.

    The line `routed` is what the router brought on held-out problems, on which its layer and price were chosen
    too: `pts eval` measures what it gains.
    """
    lines = [_HEAD]
    for name, probe in router.probes.items():
        lines += [_class_line(name, probe, each) for each in probe.classes]
        routed = probe.routed
        lines.append(f"{name:10}{'routed':>6}{routed['success']:>9.3f}{routed['tokens']:>8.1f}")
        lines.append(f"{'':10}layer {probe.layer}, {probe.price:g} of success a token")
    lines.append(CHOSEN)
    return "\n".join(lines)


def _class_line(name: str, probe: Probe, each: RouterClass) -> str:
    quality = each.quality
    auc = "–" if quality.auc is None else f"{quality.auc:.3f}"
    share = probe.routed.get(f"share_{each.name}", 0.0)
    return (
        f"{name:10}{each.name:>6}{quality.success:>9.3f}{quality.tokens:>8.1f}{share:>7.2f}{quality.brier:>8.3f}"
        f"{quality.log_loss:>10.3f}{auc:>7}"
    )
