"""`doctor upstreams`: what the probes' vectors say of what is declared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from embedonce.core.catalog import Model
from embedonce.core.content import Modality
from embedonce.doctor import agreement, probes
from embedonce.doctor.agreement import SAME, UNCHANGED, UNIT, cosine, nearness, truncation
from embedonce.doctor.check import Check, ok, problem, skipped, warning
from embedonce.doctor.plan import Asked, Plan
from embedonce.doctor.probes import AGAIN, IMAGE, PARAMETER, PLAIN, PREFIXED, Answers
from embedonce.upstreams.segmind import PARAMETER_RECIPE


@dataclass(slots=True)
class Comparison:
    """`numbers`: what was measured, for `--json`. `spent`: None where some provider did not say."""

    checks: list[Check] = field(default_factory=list)
    numbers: list[dict[str, Any]] = field(default_factory=list)
    spent: int | None = 0


def compare(plan: Plan) -> Comparison:
    """Buys the probes."""
    with ThreadPoolExecutor(max(1, len(plan.asked))) as pool:
        found = list(pool.map(lambda each: _answers(plan, each), plan.asked))
    result = Comparison()
    if any(answers.unsaid for answers in found):
        result.spent = None
    else:
        result.spent = sum(answers.spent for answers in found)
    good: list[tuple[Asked, Answers]] = []
    for each, answers in zip(plan.asked, found, strict=True):
        result.checks += _answered(each, answers)
        if PLAIN in answers.vectors and agreement.alike(answers.vectors[PLAIN]) <= SAME:
            good.append((each, answers))
    for one, other in combinations(good, 2):
        _pair(one, other, result)
    if len(good) < 2:
        said = "fewer than two upstreams answered for this model"
        result.checks.append(skipped("same space", said, "set the keys of two to compare them"))
    for each, answers in good:
        _truncation(plan.model, each, answers, result)
        _task(each, answers, result)
    return result


def _answers(plan: Plan, each: Asked) -> Answers:
    return probes.asked(each.upstream, each.offer, plan.model, each.probes, timeout=plan.timeout)


def _answered(each: Asked, answers: Answers) -> Iterator[Check]:
    line = f"upstream {each.name}"
    if PLAIN in answers.refused:
        remedy = "run `embedonce doctor`; check address, key, model and its dimensions"
        yield problem(line, answers.refused[PLAIN], remedy)
        return
    if agreement.alike(answers.vectors[PLAIN]) > SAME:
        said = "nearly the same vector for different texts: it does not embed"
        remedy = f"take {each.name} out of EMBEDONCE_UPSTREAMS; purge what it answered"
        yield problem(line, said, remedy)
        return
    for name, why in answers.refused.items():
        yield warning(line, f"probe {name}: {why}", "what it would have shown is not known")
    if AGAIN in answers.vectors:
        near = cosine(answers.vectors[PLAIN][0], answers.vectors[AGAIN][0])
        if near <= SAME:
            said = f"the same text asked twice has cosine {near:.6f}"
            yield warning(line, said, "its vectors vary: comparisons below mean less")
            return
    yield ok(line, f"answers with {len(answers.vectors[PLAIN][0]) // 4} dimensions ({each.offer.lineage})")


def _pair(one: tuple[Asked, Answers], other: tuple[Asked, Answers], result: Comparison) -> None:
    (a, from_a), (b, from_b) = one, other
    line = f"same space {a.name}, {b.name}"
    declared = a.offer.lineage == b.offer.lineage
    names = [name for name in (PLAIN, PREFIXED) if name in from_a.vectors and name in from_b.vectors]
    made_up = a.offer.made_up | b.offer.made_up
    if Modality.IMAGE not in made_up and IMAGE in from_a.vectors and IMAGE in from_b.vectors:
        names.append(IMAGE)
    near = nearness(_of(from_a, names), _of(from_b, names))
    said = f"declared as {'one space' if declared else 'two spaces'}; "
    if near is None:
        result.numbers.append({"pair": [a.name, b.name], "declared": declared, "sizes": "different"})
        said += "their vectors have different sizes"
    else:
        said += f"cosine of equal probes {near.least:.6f} at least, {near.mean:.6f} on average; "
        said += f"{near.equal} of {near.count} are equal bit for bit"
        result.numbers.append(
            {
                "pair": [a.name, b.name],
                "declared": declared,
                "agree": near.same,
                "least_cosine": near.least,
                "mean_cosine": near.mean,
                "bit_equal": near.equal,
                "probes": near.count,
            }
        )
    result.checks.append(_verdict(line, said, declared, near is not None and near.same, {a.name, b.name}))


def _verdict(line: str, said: str, declared: bool, agree: bool, names: set[str]) -> Check:
    if declared and not agree:
        remedy = (
            "set SEGMIND_SPACE=own, and purge what segmind answered"
            if "segmind" in names
            else "check both base URLs; until then let only one of them answer (EMBEDONCE_UPSTREAMS)"
        )
        return problem(line, f"CONTRADICTED: {said}", remedy)
    if agree and not declared:
        remedy = (
            "with SEGMIND_SPACE=google they would share entries and stand in for each other; tasks then "
            "travel as prefix"
            if "segmind" in names
            else "nothing: they are kept apart, which costs more and mixes nothing"
        )
        return warning(line, f"they agree, more than is declared: {said}", remedy)
    return ok(line, f"confirmed: {said}")


def _of(answers: Answers, names: Sequence[str]) -> list[bytes]:
    return [vector for name in names for vector in answers.vectors[name]]


def _truncation(model: Model, each: Asked, answers: Answers, result: Comparison) -> None:
    sizes = [size for size in probes.smaller_sizes(model) if probes.cut_to(size) in answers.vectors]
    line = f"truncation {each.name}"
    if not sizes:
        result.checks.append(skipped(line, "there is no smaller size to compare with"))
    for size in sizes:
        cut = truncation(answers.vectors[PLAIN], answers.vectors[probes.cut_to(size)], size)
        said = (
            f"{size}: largest difference {cut.furthest:.2g}, least cosine {cut.least:.6f}, "
            f"{cut.equal} of {cut.count} equal bit for bit"
        )
        result.numbers.append(
            {
                "truncation": each.name,
                "size": size,
                "largest_difference": cut.furthest,
                "largest_difference_renormalised": cut.furthest_scaled,
                "least_cosine": cut.least,
                "bit_equal": cut.equal,
                "probes": cut.count,
                "length": cut.length,
            }
        )
        unit = abs(cut.length - 1) <= UNIT
        if cut.close and model.derivable:
            result.checks.append(ok(line, f"confirmed: {said}"))
        elif cut.close:
            remedy = "`derivable: true` in EMBEDONCE_MODELS would cut smaller sizes from stored ones"
            result.checks.append(warning(line, f"more than is declared: {said}", remedy))
        elif not model.derivable:
            result.checks.append(ok(line, f"not derivable, as declared: {said}"))
        elif cut.close_scaled and not unit:
            remedy = "directions are equal; compare by cosine, not by dot product"
            said += f"; the provider's have length {cut.length:.4f}, not 1"
            result.checks.append(warning(line, said, remedy))
        else:
            remedy = "a model of its own with `derivable: false` (EMBEDONCE_MODELS) never cuts"
            state = warning if cut.least > SAME else problem
            result.checks.append(state(line, f"CONTRADICTED: {said}", remedy))


def _task(each: Asked, answers: Answers, result: Comparison) -> None:
    """Lineages whose recipe is the prefix take the parameter for ignored; the others for what counts."""
    line = f"task {each.name}"
    plain = answers.vectors[PLAIN][0]
    told = {
        name: cosine(plain, answers.vectors[name][0])
        for name in (PREFIXED, PARAMETER)
        if name in answers.vectors
    }
    if not told:
        result.checks.append(skipped(line, "no probe with a task was answered"))
        return
    result.numbers.append({"task": each.name, **{f"cosine_{name}": value for name, value in told.items()}})
    said = "; ".join(f"cosine {value:.6f} with the task {_way(name)}" for name, value in told.items())
    if PARAMETER not in told:
        result.checks.append(ok(line, said))
        return
    counts = told[PARAMETER] < UNCHANGED
    by_parameter = f":{PARAMETER_RECIPE}" in each.offer.lineage
    if by_parameter == counts:
        what = "the parameter counts" if counts else "the parameter is ignored"
        result.checks.append(ok(line, f"confirmed, {what}: {said}"))
    elif "input_type" in probes.PARAMETERS[each.name]:
        result.checks.append(ok(line, f"heeds `input_type`, which is in the key: {said}"))
    elif counts:
        remedy = "nothing is mixed: a parameter that is sent is part of the key"
        result.checks.append(warning(line, f"the parameter counts, unlike declared: {said}", remedy))
    else:
        remedy = "a task changes nothing there; with SEGMIND_SPACE=google it would travel as prefix"
        result.checks.append(warning(line, f"the parameter is ignored, unlike declared: {said}", remedy))


def _way(name: str) -> str:
    return "as prefix" if name == PREFIXED else "as parameter"
