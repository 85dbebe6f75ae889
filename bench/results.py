"""What the side-by-side found: rows with medians, how they stand to the goals, and the same as Markdown."""

import json
import math
import statistics
import time

from peers import REPOSITORY, machine


def speed(sample):
    return sample["operations"] / max(sample["seconds"], 1e-9)


def cost(sample):
    """CPU seconds of the server for a GiB."""
    return sample["cpu"] / max(sample["bytes"] / 2**30, 1e-9)


def p99(sample):
    return sample["latency"]["p99"]


def wall(sample):
    return sample["seconds"]


def failed(failure):
    """The sample of a round in which a server could not be measured."""
    return {"operations": 0, "bytes": 0, "seconds": 0, "latency": None, "timeline": [], "clientCPUSeconds": 0, "loop": "closed",
            "errors": {str(failure): 1}, "cpu": 0, "requests": 0, "asked": 0, "peak": 0}


class Goal:
    """What a round of Forebay must reach, beside the best of some others in the same round."""

    def __init__(self, what, case, details, clients, measure, bound, limit, against=()):
        self.what, self.case, self.details, self.clients, self.measure = what, case, details, clients, measure
        self.bound, self.limit, self.against = bound, limit, against

    def applies(self, case):
        return case.name == self.case and case.clients in self.clients and (not self.details or case.detail in self.details)

    def values(self, own, others):
        if not others:
            return [self.measure(sample) for sample in own]
        best = max if self.bound == "at least" else min
        return [self.measure(sample) / max(best(self.measure(other) for other in round), 1e-9)
                for sample, *round in zip(own, *others)]


# As file servers, by sendfile: as it is shipped, and with what makes it quickest.
NGINXES = "nginx", "nginx, open_file_cache"
CACHE, PROXY, REGISTRY = "nginx, proxy_cache", "docker-registry, proxy", "docker-registry"
MANIFESTS = "manifest by digest", "manifest by tag"
FEW, MANY = "Forebay, 100 blobs", "Forebay, 100,000 blobs"
# MiB/s: what one connection to a large object store gives, about.
FAR_RATE = 85

GOALS = [
    *[Goal(*rest, (nginx,)) for rest in [
        ("throughput", "warm blob", ("256 MiB",), (1, 8), speed, "at least", 1.0),
        ("CPU for a GiB", "warm blob", ("256 MiB",), (1, 8), cost, "at most", 1.05),
        *[rest for name in MANIFESTS for rest in [
            ("requests/s", name, (), (16, 64), speed, "at least", 1.2),
            ("p99", name, (), (16, 64), p99, "at most", 0.5)]],
        ("requests/s", "warm blob", ("4 KiB",), (1, 8, 16, 64), speed, "at least", 1.0)] for nginx in NGINXES],
    *[Goal("requests/s", name, (), (16, 64), speed, "at least", 40, (REGISTRY,)) for name in MANIFESTS],
    Goal("wall time", "cold pull", ("256 MiB", "1 GiB"), (1,), wall, "at most", 0.8, (CACHE, PROXY)),
    Goal("wall time", f"cold pull from {FAR_RATE} MiB/s a connection", (), (1,), wall, "at most", 0.8, (CACHE, PROXY)),
    Goal("peak memory, MiB", "beside 2,000 idle connections", (), (16,), lambda sample: sample["peak"], "at most", 120),
    Goal("p99, with them to without", "beside 2,000 idle connections", (), (16,), lambda sample: p99(sample) / sample["p99 without"],
         "at most", 1.5),
    *[Goal("requests/s, 100,000 to 100", name, (), (16,), speed, "at least", 0.95, (FEW,))
      for name in ("100 blobs of the tier", "any blob of the tier")],
]


def goals(samples):
    """`samples` are lists of rounds, by case and server. A goal has no value where one of them did nothing in some round."""
    found = []
    for goal in GOALS:
        for case in dict.fromkeys(case for case, _ in samples if goal.applies(case)):
            by_name = {server.label: rounds for (other, server), rounds in samples.items() if other is case}
            own, *others = rounds = [by_name.get("Forebay") or by_name.get(MANY), *map(by_name.get, goal.against)]
            found.append({"name": goal.what, "row": str(case), "against": " or ".join(goal.against), "bound": goal.bound, "limit": goal.limit})
            if all(many and all(one["operations"] and one.get("latency") for one in many) for many in rounds):
                value = figure(goal.what, goal.values(own, others))
                found[-1] |= value | {"isMet": holds(value["value"], goal.bound, goal.limit)}
    return found


def holds(value, bound, limit):
    return value >= limit if bound == "at least" else value <= limit


def for_page(report, newest):
    """As `forebay bench report` reads it: goals have values there, and those without become notes. What is older than the newest run says so."""
    every = report.get("goals", [])
    notes = [f"not measured: {goal['row']}, {goal['name']} beside {goal['against'] or 'nothing'}" for goal in every if "value" not in goal]
    rows = [row | ({"measured": text(row["run"])} if row["run"] != newest else {}) for row in report["rows"]]
    goals = [goal | ({"row": f"{goal['row']} †"} if goal["run"] != newest else {}) for goal in every if "value" in goal]
    return report | {"notes": report["notes"] + notes, "rows": rows, "goals": goals}


def newest_run(reports):
    return max((row["run"] for report in reports for row in report["rows"]), key=lambda run: run["started"])


def text(run):
    rounds = f"{run['rounds']} round{'s' if run['rounds'] != '1' else ''}"
    return f"{run['started'][:16].replace('T', ' ')}, {rounds}, {run['build']}, on {run['machine']}"


def figure(name, values):
    """To six digits, however small."""
    value, low, high = (float(f"{one:.6g}") for one in (statistics.median(values), min(values), max(values)))
    return {"name": name, "value": value, "low": low, "high": high}


def row(case, samples):
    """The round with the median speed, and the medians of all."""
    middle = sorted(samples, key=speed)[len(samples) // 2]
    result = {"name": case.name, "detail": case.detail, "clients": case.clients, "loop": middle["loop"], "operations": middle["operations"],
              "errors": {}, "bytes": middle["bytes"], "seconds": middle["seconds"], "timeline": middle["timeline"],
              "clientCPUSeconds": middle["clientCPUSeconds"], "mibPerSecond": middle["bytes"] / max(middle["seconds"], 1e-9) / 2**20,
              "operationsPerSecond": speed(middle)}
    for sample in samples:
        for kind, count in sample["errors"].items():
            result["errors"][kind] = result["errors"].get(kind, 0) + count
    for key in "latency", "measuredLatency":
        if middle.get(key):
            result[key] = middle[key]
    done = [s for s in samples if s["operations"]]
    figures = [figure("MiB/s", [s["bytes"] / max(s["seconds"], 1e-9) / 2**20 for s in samples]),
               figure("operations/s", [speed(s) for s in samples])]
    timed = [s["latency"] for s in done if s.get("latency")]
    if timed:
        figures += [figure(f"{name} ms", [latency[name] / 1000 for latency in timed]) for name in ("p50", "p99")]
    result["figures"] = figures + (costs(case, done) if done else [])
    return result


def costs(case, samples):
    """What the server took, where it did something."""
    figures = []
    if "p99 without" in samples[0]:
        figures.append(figure("p99 ms without idle ones", [s["p99 without"] / 1000 for s in samples]))
    if case.is_large:
        figures.append(figure("server CPU s/GiB", [cost(s) for s in samples]))
    else:
        figures.append(figure("server CPU µs/request", [s["cpu"] * 1e6 / s["operations"] for s in samples]))
    return figures + [figure("peak memory MiB", [s["peak"] for s in samples]), figure("origin requests", [s["requests"] for s in samples]),
                      figure("origin MiB", [s["asked"] for s in samples])]


def reports(samples, started, rounds, build):
    """One for each server, in the form of `forebay bench --json`. The goals are with the first."""
    made = []
    about = machine() | {"build": build}
    run = run_of(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)), about | {"rounds": str(rounds)})
    for label, server in {server.label: server for _, server in samples}.items():
        rows = [row(case, rounds_of) | {"run": run} for (case, other), rounds_of in samples.items() if other.label == label]
        made.append({
            "format": 1, "label": label, "target": label, "repository": REPOSITORY, "seed": "", "program": "make bench",
            "startedAt": run["started"],
            "machine": about | {"server": server.version, "rounds": str(rounds)}, "isVerified": False, "isInterrupted": False, "notes": [],
            "rows": rows})
    made.sort(key=lambda report: report["label"] != "Forebay")  # which the others are compared with
    made[0]["goals"] = [goal | {"run": run} for goal in goals(samples)]
    return made


def run_of(started, about):
    """When, how often, with what and where a row was measured: rows of several runs may stand beside each other."""
    return {"started": started, "rounds": about["rounds"], "build": about.get("build", "an unknown build"),
            "machine": ", ".join([about["processor"], f"{about['cores']} cores", about["memory"], about["system"], about["kernel"]])}


def earlier(path):
    """What earlier runs found, by server."""
    reports = {report["label"]: report for report in json.loads(path.read_text())} if path.exists() else {}
    for report in reports.values():
        for one in report["rows"] + report.get("goals", []):
            one.setdefault("run", run_of(report["startedAt"], report["machine"]))
    return reports


def merged(new, path):
    """With the rows of earlier runs that this one did not measure."""
    def key(row):
        return row["name"], row["detail"], row["clients"]

    def goal_key(goal):
        return goal["name"], goal["row"], goal["against"]
    old_ones = earlier(path)
    for report in new:
        old = old_ones.pop(report["label"], None)
        if old:
            measured = {key(row) for row in report["rows"]}
            report["rows"] = [row for row in old["rows"] if key(row) not in measured] + report["rows"]
    both = new + list(old_ones.values())
    reached = {goal_key(goal): goal for report in reversed(both) for goal in report.pop("goals", [])}
    both[0]["goals"] = list(reached.values())
    return both


# Markdown


def decimals(value):
    """Three digits of most figures, and at least one of those that are small."""
    value = abs(value)
    return 0 if value >= 100 or not value else 1 if value >= 10 else max(2, -math.floor(math.log10(value)))


def number(value):
    return f"{value:,.{decimals(value)}f}"


def with_spread(figure, value=number):
    low, high = number(figure["low"]), number(figure["high"])
    return value(figure["value"]) + (f" ({low}–{high})" if low != high else "")


def beside_goal(goal):
    """A value that is a little off its goal has as many digits more as tell that."""
    def written(value):
        texts = (f"{value:,.{digits}f}" for digits in range(decimals(value), 9))
        return next((text for text in texts if holds(float(text.replace(",", "")), goal["bound"], goal["limit"]) == goal["isMet"]), number(value))
    return with_spread(goal, written)


def markdown(reports):
    newest = newest_run(reports)
    every = [row["run"] for report in reports for row in report["rows"]] + [goal["run"] for goal in reports[0].get("goals", [])]
    older = sorted({text(run) for run in every if run != newest}, reverse=True)

    def mark(run):
        return f" [{older.index(text(run)) + 1}]" if run != newest else ""
    lines = ["# Forebay beside others", "",
             f"{text(newest)}. Client, server and origin share the machine, on loopback. Medians of alternating rounds "
             "(lowest–highest). Origin requests and bytes are what the S3 server counted; memory that a server's processes share counts once.", ""]
    lines += [f"[{number + 1}] is older: {run}.\n" for number, run in enumerate(older)]
    lines += [f"- {report['label']}: {report['machine']['server']}" for report in reports]
    lines += goal_table(reports[0].get("goals", []), mark)
    for name, detail, clients in dict.fromkeys((row["name"], row["detail"], row["clients"]) for report in reports for row in report["rows"]):
        rows = [(report["label"], row) for report in reports for row in report["rows"]
                if (row["name"], row["detail"], row["clients"]) == (name, detail, clients)]
        names = list(dict.fromkeys(f["name"] for _, row in rows for f in row["figures"]))
        names.remove("MiB/s" if detail.endswith((" B", " KiB")) else "operations/s")
        lines += ["", f"## {name}, {detail}, {clients} client{'s' if clients != 1 else ''}", "",
                  "| server | " + " | ".join(names) + " | errors |", "|---|" + "---:|" * (len(names) + 1)]
        for label, row in rows:
            cells = {f["name"]: with_spread(f) for f in row["figures"]}
            lines.append(f"| {label}{mark(row['run'])} | " + " | ".join(cells.get(one, "–") for one in names) + f" | {sum(row['errors'].values())} |")
    return "\n".join(lines) + "\n"


def goal_table(goals, mark):
    if not goals:
        return []
    lines = ["", "## Goals", "", "Ratios within each round, then their median.", "", "| work | what | beside | found | goal |  |",
             "|---|---|---|---:|---:|---|"]
    for goal in goals:
        found, verdict = (beside_goal(goal), "met" if goal["isMet"] else "**missed**") if "value" in goal else ("–", "**not measured**")
        lines.append(f"| {goal['row']}{mark(goal['run'])} | {goal['name']} | {goal['against'] or '–'} | {found} | {goal['bound']} {goal['limit']:g} | {verdict} |")
    return lines
