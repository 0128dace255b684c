# SPDX-License-Identifier: Apache-2.0
"""Tables of what was measured: medians with their ranges, and ratios of values of the same round."""
import statistics

from runner.stop import Stop

# what others are compared with
YARDSTICK, FLOOR, BEFORE = "postfix", "floor", "before"


# around what --update replaces
BEGIN, END = "<!-- begin: bench/run -->\n", "<!-- end: bench/run -->\n"


def number(x):
    return f"{x:,.0f}" if abs(x) >= 100 else f"{x:.3g}"


def spread(values):
    """Median (least-greatest)."""
    if not values:
        return "-"
    text = number(statistics.median(values))
    return text if len(values) == 1 else f"{text} ({number(min(values))}–{number(max(values))})"


class Results:
    def __init__(self):
        self.rows = {}  # (workload, system, metric): {round: value}

    def add(self, round_, workload, system, metric, value):
        self.rows.setdefault((workload, system, metric), {})[round_] = value

    def values(self, workload, system, metric):
        return list(self.rows.get((workload, system, metric), {}).values())

    def ratios(self, workload, metric, system, other):
        mine, others = (self.rows.get((workload, s, metric), {}) for s in (system, other))
        return [mine[r] / others[r] for r in mine if others.get(r)]

    def rounds(self):
        """That were begun."""
        return max(round_ for rounds in self.rows.values() for round_ in rounds)

    def everywhere(self, metric):
        return [v for (_, _, m), rounds in self.rows.items() if m == metric for v in rounds.values()]

    def workloads(self):
        return list(dict.fromkeys(w for w, _, _ in self.rows))

    def systems(self, workload=None):
        return list(dict.fromkeys(s for w, s, _ in self.rows if workload in (None, w)))

    def metrics(self, workload):
        return list(dict.fromkeys(m for w, _, m in self.rows if w == workload))


def ratio_table(results, main_metric):
    """One line a workload. main_metric(workload): the metric and its unit."""
    systems = results.systems()
    pairs = [(s, other) for s in systems for other in (YARDSTICK, FLOOR, BEFORE)
             if other in systems and s not in (YARDSTICK, FLOOR, BEFORE, other)]
    head = ["workload", "unit", *systems]
    for s, other in pairs:
        head += [f"{s}/{other}"] + ([f"CPU {s}/{other}"] if other != FLOOR else [])
    lines = [head]
    for w in results.workloads():
        metric, unit = main_metric(w)
        line = [w, unit, *(spread(results.values(w, s, metric)) for s in systems)]
        for s, other in pairs:
            line += [spread(results.ratios(w, metric, s, other))]
            line += [spread(results.ratios(w, "cpu_ms", s, other))] if other != FLOOR else []
        lines.append(line)
    return markdown(lines)


def detail_table(results, workload):
    """All metrics of one workload, a line a system."""
    metrics = results.metrics(workload)
    lines = [["", *metrics]]
    for s in results.systems(workload):
        lines.append([s, *(spread(results.values(workload, s, m)) for m in metrics)])
    return markdown(lines)


def replaced(text, tables):
    """The text with these tables between its marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise Stop(f"no lines {BEGIN.strip()} and {END.strip()} to put the tables between")
    return before + begin + tables + end + after


def markdown(lines):
    text = ["| " + " | ".join(line) + " |" for line in lines]
    text.insert(1, "|---" * len(lines[0]) + "|")
    return "\n".join(text) + "\n"
