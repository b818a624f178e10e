"""The results as tables, for a terminal and for RESULTS.md."""

from summary import medians, ratios


def number(value, digits):
    return f"{value:,.{digits}f}"


def with_spread(found):
    return f"{found['median']:.3f} ({found['least']:.3f} to {found['greatest']:.3f})"


def rows(scenario, results):
    """A heading and a line for each proxy, the least first; gatelet's share of each stands last."""
    columns = scenario.columns
    proportions = ratios(scenario, results)
    middle = {name: medians(rounds) for name, rounds in results.items()}
    order = sorted(middle, key=lambda name: middle[name].get(scenario.headline, 0))
    yield [scenario.name, *(title for title, _ in columns.values()), "gatelet to it"]
    for name in order:
        cells = [
            number(middle[name][field], digits) if field in middle[name] else "–"
            for field, (_, digits) in columns.items()
        ]
        yield [name, *cells, with_spread(proportions[name]) if name in proportions else "–"]


def target_rows(judged):
    yield ["target", "measured", "at most", ""]
    for each in judged:
        unit = each["unit"]
        digits = 3 if unit == "×" else 1
        measured = (f"{number(each['median'], digits)} {unit} "
                    f"({number(each['least'], digits)} to {number(each['greatest'], digits)})")
        bound = f"{number(each['bound'], 2 if unit == '×' else 0)} {unit}"
        yield [each["what"], measured, bound, "holds" if each["holds"] else "does not"]


def aligned(table):
    table = list(table)
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines = []
    for row in table:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def printed(scenarios, measured, judged):
    tables = [aligned(rows(scenario, measured[scenario.name])) for scenario in scenarios]
    if judged:
        tables.append(aligned(target_rows(judged)))
    return "\n\n".join(tables)


def markdown_table(table):
    heading, *lines = table
    marks = ["---"] + ["--:"] * (len(heading) - 1)
    return "\n".join("| " + " | ".join(row) + " |" for row in [heading, marks, *lines])


def markdown(machine, versions, options, scenarios, measured, judged):
    shown = ", ".join(f"{name} {version}" for name, version in versions.items())
    parts = [
        "# gatelet beside nginx, HAProxy, Envoy and Pingora",
        f"Measured on {machine['date']} by `benches/compare/run --write`, {options.rounds} rounds of {options.seconds} s: "
        f"{machine['processor']}, {machine['cores']} cores, Linux {machine['kernel']}, "
        f"congestion control {machine['congestion_control']}; its load average was {machine['load']} before. {shown}.",
        "Each has one worker on one core; the load and the upstream share another. Figures are medians of the rounds. "
        "The last column is gatelet's figure in proportion to each other's: the median of the rounds' own ratios, with the "
        "least and the greatest. Ratios can be compared between machines; microseconds cannot. What is measured, and how "
        "each is configured, stands in [README.md](README.md#compare).",
        "![processor time a request](results.svg)",
    ]
    if judged:
        parts += ["## Targets", markdown_table(target_rows(judged))]
    parts.append("## Figures")
    parts += [markdown_table(rows(scenario, measured[scenario.name])) for scenario in scenarios]
    return "\n\n".join(parts) + "\n"
