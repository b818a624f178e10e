"""Medians of the rounds, and of the rounds' own ratios."""

from statistics import median


def percentile(values, percent):
    return sorted(values)[min(len(values) * percent // 100, len(values) - 1)]


def spread(values):
    """The median with the least and the greatest."""
    values = sorted(values)
    return {"median": median(values), "least": values[0], "greatest": values[-1]}


def medians(rounds):
    return {field: median(each[field] for each in rounds) for field in rounds[0]}


def ratios(scenario, results, of="gatelet"):
    """gatelet's figure in proportion to each other's, where the scenario has one and both took part."""
    field = scenario.headline
    if of not in results or any(field not in each for each in results[of]):
        return {}
    found = {}
    for name, rounds in results.items():
        # The relay adds nothing to itself.
        if name != of and all(each[field] for each in rounds):
            found[name] = spread([one[field] / other[field] for one, other in zip(results[of], rounds)])
    return found
