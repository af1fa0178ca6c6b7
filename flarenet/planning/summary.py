"""What planning found and decided, as tables for a person."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence

from rich.table import Table

from ..data.labels import DEFAULT_TOLERANCE_MM, LabelSet
from ..data.memory import processors
from ..data.verify import say_ignored
from ..errors import some_of
from ..terminal import new_table, show
from .assign import BY_HAND
from .cost.kinds import cost
from .cost.memory import gb_in_words, prediction_gb, step_gb, stored_gb
from .cost.speed import prediction_seconds, preparation_seconds, pseudo_seconds, seconds_on_cores, training_seconds
from .fusion import Fusion
from .measuring.fingerprint import Fingerprint, Spread
from .plan import Plan, Step
from .pseudo_rules import AUTO_RULES
from .rules.configurations import cut_across
from .rules.patterns import Pattern

MOST_SENTENCES = 8
"""The most sentences of one kind on the terminal."""

MOST_TOLERATED_VOXELS = 5
"""A tolerance of more voxels gets a remark. In scans of the whole body, 2 mm are two or three voxels."""


def print_summary(plan: Plan, fingerprint: Fingerprint) -> None:
    """Print every table to stdout."""
    tables = plan_tables(plan, fingerprint).values()
    show(cohort_table(fingerprint), geometry_table(fingerprint), *tables, notes=remarks(fingerprint))


def plan_tables(plan: Plan, fingerprint: Fingerprint) -> dict[str, Table]:
    """Short name -> table: what was decided, and why."""
    fusion = {"fusion": fusion_table(plan.fusion)} if plan.fusion != Fusion() else {}
    return {
        "configurations": configuration_table(plan),
        "networks": network_table(plan),
        "steps": step_table(plan, fingerprint),
        "reasons": reason_table(plan),
        **fusion,
        "estimates": need_table(plan, fingerprint),
    }


def print_fingerprint(fingerprint: Fingerprint) -> None:
    """Print what was found to stdout: cohorts, sizes, and what a person should know."""
    show(cohort_table(fingerprint), geometry_table(fingerprint), notes=remarks(fingerprint))


def say_pattern(pattern: Iterable[int], labels: LabelSet) -> str:
    """A pattern in words, group by group: "all", "all but" one or two labels, or the names of the labels."""
    looked_for, parts = set(pattern), []
    for group, values in labels.groups.items():
        there = [value for value in values if value in looked_for]
        missing = [value for value in values if value not in looked_for]
        if not there:
            continue
        if not missing:
            parts.append(f"all of {group} ({len(values)})" if len(values) > 1 else labels.names[values[0]])
        elif len(missing) < len(there) and len(missing) <= 2:
            parts.append(f"{group} ({len(there)}): all but {', '.join(labels.names_of(missing))}")
        else:
            parts.append(f"{group} ({len(there)}): {', '.join(labels.names_of(there))}")
    return " + ".join(parts) or "nothing (unlabelled)"


def cohort_names(fingerprint: Fingerprint) -> dict[Pattern, str]:
    """Pattern -> a short name of its cohort, C1 for the one with the most labels. Only tables use these names."""
    return {pattern: f"C{number}" for number, pattern in enumerate(fingerprint.patterns, start=1)}


def cohort_table(fingerprint: Fingerprint) -> Table:
    """Which labels were looked for in how many cases, and the medians of these cases' lowest and highest intensity."""
    title = f"{fingerprint.dataset}: {len(fingerprint.cases)} cases by the labels looked for"
    ends = [f">{end} {fingerprint.intensity}" for end in ("lowest", "highest")]
    table = new_table(title, "cohort", "labels looked for", ">cases", ">inferred", *ends)
    for cohort, name in zip(fingerprint.cohorts, cohort_names(fingerprint).values()):
        numbers = (f"{number:g}" for number in (cohort.cases, cohort.inferred, cohort.floor_hu, cohort.ceiling_hu))
        table.add_row(name, say_pattern(cohort.pattern, fingerprint.labels), *numbers)
    return table


def geometry_table(fingerprint: Fingerprint) -> Table:
    """Sizes and spacings over the cases, (z, y, x)."""
    table = new_table("scans (z, y, x)", "", "smallest", "median", "largest")
    rows = {"voxels": fingerprint.shape, "spacing in mm": fingerprint.spacing_mm, "body in mm": fingerprint.body_mm}
    for name, spread in rows.items():
        table.add_row(name, *_spread(spread, ".2f" if name.startswith("spacing") else ".0f"))
    return table


def configuration_table(plan: Plan) -> Table:
    """Every number of the configurations, with its reason."""
    title = f"configurations, recipe {plan.recipe!r}"
    table = new_table(title, "configuration", "number", "value", "why", show_lines=True)
    for name, configuration in plan.configurations.items():
        for field, value in configuration:
            counts = field != "why" and (field != "neighbours" or len(configuration.patch) == 2)
            if counts and value is not None:
                table.add_row(name, field, _say(field, value), configuration.why.get(field, BY_HAND))
    return table


def reason_table(plan: Plan) -> Table:
    """Why the numbers of the trainers are what they are; a reason that trainers share is listed once."""
    table = new_table("reasons", "trainers", "choice", "why", show_lines=True)
    said: dict[tuple[str, str], list[str]] = {}
    for name, part in plan.trainers.items():
        for reason in part.why.items():
            said.setdefault(reason, []).append(name)
    for (field, why), names in said.items():
        table.add_row(", ".join(names), field, why)
    return table


def fusion_table(fusion: Fusion) -> Table:
    """The fields of the fusion that differ from the paper's."""
    table = new_table("fusion of the groups", "field", "value", "as in the paper")
    usual = Fusion().model_dump(mode="json")
    for field, value in fusion.model_dump(mode="json").items():
        if value != usual[field]:
            table.add_row(field, json.dumps(value), json.dumps(usual[field]))
    return table


def need_table(plan: Plan, fingerprint: Fingerprint) -> Table:
    """The memory and time that the plan needs, by cost.memory and cost.speed, next to its budget; the time to train on
    the cores of this machine too."""
    table = new_table("estimates", "what", ">needs", ">budget")
    budget, cores = plan.budget, processors()
    for name, part in plan.trainers.items():
        patch = plan.configuration_of(name).patch
        train_s = sum(training_seconds(step, part.network, plan.labels.outputs, patch) for step in part.steps)
        need_gb = max(step_gb(plan, name, step) for step in part.steps)
        table.add_row(f"{name}: memory to train", gb_in_words(need_gb), f"{budget.gpu_memory_gb:g} GB")
        table.add_row(f"{name}: time to train on a card", _duration(train_s), "")
        on_cores = f"about {_duration(seconds_on_cores(train_s, cores), digits=0)}"
        table.add_row(f"{name}: the same on {cores} CPU core{'s' * (cores > 1)}, as here", on_cores, "")
        if any(step.teachers for step in part.steps):
            seconds = sum(pseudo_seconds(step, plan, fingerprint) for step in part.steps)
            table.add_row(f"{name}: time of its pseudo labels on a card", _duration(seconds), "")
    for name in plan.final_trainers:
        part = plan.trainers[name]
        choice = plan.configuration_of(name), part.network, plan.labels.outputs
        need_gb = prediction_gb(plan.scans["large"], *choice, fusion=plan.fusion)
        seconds = prediction_seconds([plan.scans["median"]], *choice)
        table.add_row(f"{name}: memory, a large scan", gb_in_words(need_gb), f"{budget.inference_memory_gb:g} GB")
        table.add_row(f"{name}: time, a median scan on a card", f"{seconds:.1f} s", f"{budget.inference_seconds:g} s")
    disk_gb = sum(stored_gb(fingerprint, configuration) for configuration in plan.configurations.values())
    table.add_row("prepared cases on disk", f"up to {gb_in_words(disk_gb)}", "")
    seconds = preparation_seconds(fingerprint) * len(plan.configurations)
    table.add_row("preparation in one process", _duration(seconds), "")
    return table


def network_table(plan: Plan) -> Table:
    """The networks by trainer, with their size. GMAC are 10^9 multiply-adds for a patch; "-" means not counted."""
    table = new_table("networks", "trainer", "network", "sees", "answers", "features", ">parameters", ">GMAC")
    for name, part in plan.trainers.items():
        network = part.network
        answers = ", ".join(f"{group} ({plan.labels.outputs[group]})" for group in network.groups) or "the image itself"
        features = ", ".join(str(feature) for feature in network.features)
        kind = f"{network.kind} ({network.dimensions}D)"
        spent = cost(network, plan.labels.outputs, plan.configuration_of(name).patch)
        size = (f"{spent.parameters:,}", f"{spent.products / 1e9:.1f}") if spent else ("-", "-")
        table.add_row(name, kind, part.configuration, answers, features, *size)
    return table


def step_table(plan: Plan, fingerprint: Fingerprint) -> Table:
    """The runs in order: what each trains on, and from what it starts."""
    names = cohort_names(fingerprint)
    table = new_table("training", "run", "cohorts", ">cases", "starts from", "learns", "pseudo labels", ">epochs")
    for name, part in plan.trainers.items():
        for number, step in enumerate(part.steps, start=1):
            table.add_row(
                f"{name}/{number}",
                ", ".join(name for pattern, name in names.items() if step.subset.holds(pattern)),
                str(fingerprint.count(step.subset.patterns)),
                str(step.starts_from or (f"encoder of {step.encoder_from}" if step.encoder_from else "random")),
                ", ".join(step.trained) or "all",
                _teachers(step),
                str(step.epochs),
            )
    return table


def remarks(fingerprint: Fingerprint) -> list[str]:
    """Sentences on what a person should know before training. A long list of odd cases is cut short, and says so."""
    labels, sentences = fingerprint.labels, list[str]()
    if not any(fingerprint.patterns):
        sentences.append("no training case is labelled: no network can learn to segment, only MAE to fill in images")
    for group, values in labels.groups.items():
        never = [value for value in values if value in fingerprint.never_annotated]
        if never and any(fingerprint.patterns):
            sentences.append(
                f"{group}: {', '.join(labels.names_of(never))} annotated in no case, so nothing is learned about it: "
                "the networks keep its output and are taught to leave it empty"
            )
    if inferred := sum(cohort.inferred for cohort in fingerprint.cohorts):
        sentences.append(
            f"nobody stated what was looked for in {inferred} cases: it was inferred from the labels present in all of "
            "them; 'annotated' or 'patterns' in dataset.json states it" + _if_it_is_one(fingerprint)
        )
    sentences += say_ignored(case.ignored for case in fingerprint.cases)
    if made := cut_across(fingerprint):
        _, voxel, _ = _spread(fingerprint.spacing_mm, ".2f")
        sentences.append(
            f"the median scan is {made}, with voxels of {voxel} mm (z, y, x): the axial slices that 2D networks see "
            "are reformatted from its slices, with coarse pixels. The 3D trainers, by name, may do better"
        )
    sentences += _out_of_scale(fingerprint)
    sentences += _some([f"{name}: {reason}" for name, reason in fingerprint.ambiguous.items()], "ambiguous")
    absent = fingerprint.absent.items()
    sentences += _some([f"{name}: absent: {', '.join(labels.names_of(values))}" for name, values in absent], "absent")
    return sentences + _some(fingerprint.suspicious, "suspicious")


def _out_of_scale(fingerprint: Fingerprint) -> list[str]:
    """Remarks on defaults for scans of the whole body that are too coarse for the voxels of these scans."""
    labels, voxel_mm = fingerprint.labels, fingerprint.spacing_mm.median
    voxels = DEFAULT_TOLERANCE_MM / max(voxel_mm)
    if voxels <= MOST_TOLERATED_VOXELS:
        return []
    unstated, found = [name for name in labels.names[1:] if name not in labels.tolerance_mm], list[str]()
    if unstated:
        found.append(
            f"the surface Dice tolerates {DEFAULT_TOLERANCE_MM:g} mm for {some_of(unstated)}, {voxels:.0f} voxels of "
            "the median scan: 'tolerance_mm' in dataset.json can lower it"
        )
    if len(fingerprint.patterns) > 1 and any(map(labels.of_lesions, labels.groups)):  # else nothing is filtered
        least_mm3 = AUTO_RULES.least_mm3
        least = least_mm3 / math.prod(voxel_mm)
        found.append(
            f"with recipe auto, pseudo labels of lesions below {least_mm3:g} mm3 are hidden, {least:.0f} voxels of the "
            "median scan: --set 'trainers.*.steps.*.pseudo.least_mm3=MM3' can lower it"
        )
    return found


def _if_it_is_one(fingerprint: Fingerprint) -> str:
    """Where several cohorts were inferred: how to say that all labelled cases were searched for every label; else
    nothing."""
    if sum(cohort.inferred > 0 and bool(cohort.pattern) for cohort in fingerprint.cohorts) < 2:
        return ""
    everything = {"annotated": fingerprint.labels.names_of(fingerprint.labels.values), "cases": ["*"]}
    line = f'"patterns": {json.dumps({"all": everything}, ensure_ascii=False)}'
    where = "in it (for a set made with --from, then plan with --allow-external instead of --from)"
    return f". If every labelled case was searched for every label, say so {where}: {line}"


def _some(sentences: Sequence[str], field: str) -> list[str]:
    """The first MOST_SENTENCES of `sentences`, and where the others can be read."""
    more = len(sentences) - MOST_SENTENCES
    rest = [f"and {more} more in fingerprint.json, under {field!r}"] if more > 0 else []
    return [*sentences[:MOST_SENTENCES], *rest]


def _say(field: str, value: object) -> str:
    if not isinstance(value, tuple):
        return str(value)
    between = " to " if field == "clip_hu" else " x "
    return between.join("own" if number is None else f"{number:g}" for number in value)


def _duration(seconds: float, *, digits: int = 1) -> str:
    """A time in hours with so many digits, below one hour in minutes, below one minute in seconds."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:.{digits}f} h"


def _teachers(step: Step) -> str:
    return ", ".join(f"{group}: {run}" for group, run in step.teachers.items()) or "none"


def _spread(spread: Spread, form: str) -> tuple[str, ...]:
    return tuple(" x ".join(f"{v:{form}}" for v in row) for row in (spread.smallest, spread.median, spread.largest))
