"""What a run came to: for people and for programs."""

from __future__ import annotations

import statistics
from collections import defaultdict

from .oracle import Result
from .wire import ADMITTED, COMMAND, DELIVERED, POSTED, REJECTED, SEALED, USAGE

SHOWN_MAX = 8
#: Whose output shows that a target is back: topics that the reader saw.
MOVES = {
    "canonicalise": (ADMITTED,),
    "sign": (SEALED,),
    "meter": (USAGE, COMMAND),
    "settle": (POSTED,),
    "forward": (DELIVERED,),
    "database": (POSTED,),
    "receiver": (DELIVERED,),
}
ALL = (ADMITTED, SEALED, USAGE, COMMAND, POSTED)
#: Too seldom for a partition of its own to be waited for.
SPARSE = {DELIVERED}


def named(fault):
    """What it is called in the report: kills by what they hit, the other kinds as they are."""
    return f"kill {fault['target'].split('.')[0]}" if fault["kind"] == "kill" else fault["kind"]


def recovery(found, story):
    """What happened -> seconds, one for each fault: from the blow (where something was killed) or from its end (where something was stopped,
    cut or delayed) until what it hit has done its work again, in every partition.

    A record counts that was written after the target came back. Where no reader sees the log, an answer counts that a client got
    to a request that it sent after that."""
    arrivals = defaultdict(list)
    for topic, _, _, _, arrived, written, cause in found.watched:
        source = cause.split(":")[0] if cause and topic not in SPARSE else None
        arrivals[(topic, source)].append((written / 1000, arrived))
    answered = sorted((answer.sent, answer.at) for answer in story.answers if answer.role in ("first", "again"))
    times = defaultdict(list)
    for fault in found.faults:
        since = fault["since"]
        begun = fault["at"] if "kill" in fault["kind"] or fault["kind"].endswith("restart") else since
        role = fault["target"].split(".")[0]
        if role in ("view", "audit"):
            times[named(fault)].append(fault["until"] - begun)
            continue
        waits = []
        topics = ALL if role.startswith("broker") else MOVES.get(role, ())
        if found.watched and topics:
            for (topic, _), known in arrivals.items():
                if topic in topics:
                    after = [arrived for written, arrived in known if written >= since]
                    waits.extend(after[:1])
        else:
            after = [at for sent, at in answered if sent >= since]
            waits = [min(after)] if after else []
        if waits:
            times[named(fault)].append(max(0.0, max(waits) - begun))
    return times


def recovered(times, within_s):
    """A check of its own, where somebody says how long it may take."""
    result = Result("recovered", f"what was hit works again within {within_s:g} s")
    for kind, seconds in sorted(times.items()):
        for one in seconds:
            result.looked_at += 1
            if one > within_s:
                result.fault(f"{kind}: {one:.1f} s")
    return result


def make(options, faults, story, found, results, ends, sent, struck_s, whole_s):
    times = recovery(found, story)
    if options.recover_within:
        results.append(recovered(times, options.recover_within))
    carried_out = defaultdict(int)
    for fault in found.faults:
        carried_out[named(fault)] += 1
    kinds = {
        kind: {
            "survived": count,
            "recovery_s": {
                "measured": len(times[kind]),
                "median": round(statistics.median(times[kind]), 2) if times[kind] else None,
                "worst": round(max(times[kind]), 2) if times[kind] else None,
            },
        }
        for kind, count in sorted(carried_out.items())
    }
    exchanges = story.exchanges.values()
    made = {
        "profile": options.profile,
        "minutes": options.minutes,
        "seed": options.seed,
        "holds": all(result.holds for result in results) and not len(faults) > len(found.faults),
        "faults_planned": len(faults),
        "faults": kinds,
        "exchanges": len(story.exchanges),
        "sealed": sum(exchange.is_sealed for exchange in exchanges),
        "refused": sum(not exchange.is_sealed for exchange in exchanges),
        "charged": sum(exchange.is_charged for exchange in exchanges),
        "deliveries": sum(exchange.delivery is not None and exchange.is_sealed for exchange in exchanges),
        "requests_decided": len(story.answers),
        "attempts": sent,
        "replayed": sum(answer.replayed for answer in story.answers),
        "forged": len(story.forged),
        "calls_to_receivers": len(found.calls),
        "rejected_records": len(found.records[REJECTED]),
        "read_meanwhile": len(found.watched),
        "transactions": len(found.transactions.all()) if found.transactions else None,
        "aborted_transactions": sum(not one.is_committed for one in found.transactions.all()) if found.transactions else None,
        "own_ends": [{name: end[name] for name in ("service", "status", "lived_s", "log")} for end in ends],
        "struck_s": round(struck_s, 1),
        "whole_s": round(whole_s, 1),
        "checks": [
            {
                "name": result.name, "title": result.title, "holds": result.holds, "skipped": result.skipped,
                "looked_at": result.looked_at, "faults": result.faults[:200], "faults_in_all": len(result.faults),
            }
            for result in results
        ],
    }  # fmt: skip
    return made


def told(made):
    """For people."""
    lines = [
        f"chaos: {made['profile']}, {made['minutes']:g} min, seed {made['seed']}",
        f"  {made['exchanges']} exchanges: {made['sealed']} sealed ({made['charged']} charged, {made['deliveries']} delivered or given up), "
        f"{made['refused']} refused; {made['forged']} forged records",
        f"  {made['requests_decided']} requests decided in {made['attempts']} attempts, {made['replayed']} answers were replays; "
        f"{made['calls_to_receivers']} calls to receivers",
    ]
    if made["transactions"] is not None:
        lines.append(
            f"  {made['transactions']} transactions, {made['aborted_transactions']} of them aborted; "
            f"{made['read_meanwhile']} records read meanwhile"
        )
    lines += ["", f"  {'fault':<18} {'survived':>8} {'recovery median':>16} {'worst':>9}"]
    for kind, row in made["faults"].items():
        figures = row["recovery_s"]
        median, worst = (f"{value:.2f} s" if value is not None else "-" for value in (figures["median"], figures["worst"]))
        lines.append(f"  {kind:<18} {row['survived']:>8} {median:>16} {worst:>9}")
    carried_out = sum(row["survived"] for row in made["faults"].values())
    if carried_out < made["faults_planned"]:
        lines.append(f"  {made['faults_planned'] - carried_out} planned faults were not carried out")
    if made["own_ends"]:
        lines += ["", f"  {len(made['own_ends'])} ends of services of themselves, each started again:"]
        lines += [f"    {end['service']} with {end['status']} after {end['lived_s']} s ({end['log']})" for end in made["own_ends"][:20]]
    lines.append("")
    for one in made["checks"]:
        word = "  -  " if one["skipped"] else "holds" if one["holds"] else "FAILS"
        lines.append(f"  {word}  {one['title']}" + ("" if one["skipped"] else f" ({one['looked_at']})"))
        lines += [f"           {fault[:400]}" for fault in one["faults"][:SHOWN_MAX]]
        if one["faults_in_all"] > SHOWN_MAX:
            lines.append(f"           and {one['faults_in_all'] - SHOWN_MAX} more")
    if any(one["skipped"] for one in made["checks"]):
        lines.append("  (-: needs a log that other clients can read; the embedded one is looked at through HTTP and the command line)")
    lines += ["", f"chaos: {'everything holds' if made['holds'] else 'NOT everything holds'} ({made['whole_s']:.0f} s)"]
    return "\n".join(lines)
