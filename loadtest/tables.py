"""Tables and pictures from the results of `speed`."""
import json
import os
import re

import harness
import peers
import plot

BEGIN, END = "<!-- tables of loadtest/speed begin -->", "<!-- tables of loadtest/speed end -->"
PEERS = [name for name in peers.NAMES if name != "null" and not name.startswith("lucid")]
SAME_RATES = ["slowest 50", "slowest 80", "fastest 50", "fastest 80"]


def read(path):
    """The last result of each cell, by the cell's name, in the order they first came."""
    results = {}
    if os.path.exists(path):
        with open(path) as file:
            for line in file:
                result = json.loads(line)
                results[result["cell"]] = result
    return results


def number(value):
    """Microseconds with three digits or so: 4.2, 43, 1,234."""
    return f"{value:.1f}" if value < 9.95 else f"{value:,.0f}"


def latencies(row):
    text = " / ".join(number(row[key]) for key in ("p50", "p99", "p999"))
    return text + (f" ({row['bad']} requests failed)" if row["bad"] else "")


def plain(result):
    """One cell for a terminal."""
    lines = [f"{result['cell']}:"]
    for name, row in result["servers"].items():
        text = f"  {peers.TITLES[name]:16}"
        if "r" in row:
            text += f" r {row['r']:.3f} ({row['r_min']:.3f} to {row['r_max']:.3f})  {row['per_cpu']:>11,.0f} req/CPU-s "
        if "rate" in row:
            text += f" asked for {row['rate']:>9,.0f}/s"
        text += f" {row['rps']:>11,.0f} req/s"
        if "p50" in row:
            text += f"  busy {row['busy']:.2f}  p50 / p99 / p99.9 {latencies(row)} µs"
        for what in ("bad", "unsent"):
            text += f"  {row[what]} {what}" if row.get(what) else ""
        lines.append(text)
    lines += [f"  {peers.TITLES[name]:16} left out: {why}" for name, why in result.get("left_out", {}).items()]
    return "\n".join(lines)


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def closed_cells(results, layout):
    return [result for result in results.values() if result["kind"] == "closed" and result["cell"].startswith(layout)]


def row_of(result, names, text):
    """A table's row; the best of Lucid and the peers stands out. `text`: what to say of a server, and a rank."""
    found = {name: text(result["servers"][name]) for name in names if name in result["servers"]}
    ranked = [(rank, name) for name, (_, rank) in found.items() if name != "null" and rank is not None]
    best = min(ranked)[1] if ranked else None
    cells = []
    for name in names:
        said = found.get(name, ("", None))[0]
        cells.append(f"**{said}**" if name == best and said else said)
    return cells


def ratios(results, layout):
    names = [name for name in peers.NAMES if name != "null"]
    rows = []
    for result in closed_cells(results, layout):
        cells = row_of(result, names, lambda row: (f"{row['r']:.2f}", -row["r"]))
        null = result["servers"]["null"]
        rows.append([result["cell"][3:], f"{null['per_cpu']:,.0f}", *cells])
    return table(["", "bare socket, req/CPU-s", *(peers.TITLES[name] for name in names)], rows)


def closed_latency(results, layout):
    rows = []
    for result in closed_cells(results, layout):
        rows.append([result["cell"][3:], *row_of(result, peers.NAMES, lambda row: (latencies(row), None))])
    return table(["p50 / p99 / p99.9, µs", *(peers.TITLES[name] for name in peers.NAMES)], rows)


def open_latency(results, layout):
    rows = []
    found = results.get(f"{layout} open capacity")
    if found:
        text = lambda row: (f"{row['rps']:,.0f}/s", None)
        rows.append(["reached in a closed loop", *row_of(found, peers.NAMES, text)])
    for what in ("own 50", "own 80"):
        result = results.get(f"{layout} open {what}")
        if result:
            text = lambda row: (f"{latencies(row)} at {row['rate'] / 1e3:,.0f} k/s", row["p99"])
            rows.append([f"{what[4:]} % of that", *row_of(result, peers.NAMES, text)])
    for what in SAME_RATES:
        result = results.get(f"{layout} open {what}")
        if result:
            rate = next(iter(result["servers"].values()))["rate"]
            cells = row_of(result, peers.NAMES, lambda row: (latencies(row), row["p99"]))
            rows.append([f"{rate:,.0f}/s, {what[-2:]} % of the {what[:-3]} peer", *cells])
    return table(["p50 / p99 / p99.9, µs", *(peers.TITLES[name] for name in peers.NAMES)], rows)


def verdicts(results, layout):
    """Where Lucid is not ahead of every peer, in sentences."""
    lines, ahead, cells = [], 0, closed_cells(results, layout)
    for result in cells:
        servers = result["servers"]
        others = [(servers[name]["r"], name) for name in PEERS if name in servers]
        if not others or "lucid" not in servers:
            continue
        behind = []
        best, who = max(others)
        for name in ("lucid", "lucid-jwt"):
            if name in servers and servers[name]["r"] <= best:
                behind.append(f"{peers.TITLES[name]} {servers[name]['r']:.2f}, {peers.TITLES[who]} {best:.2f}")
        ahead += not behind
        lines += [f"- {result['cell'][3:]}: {each}." for each in behind]
    closed_head = f"Requests for each second of CPU: Lucid, with and without JWT, is ahead of every peer in {ahead} of {len(cells)} cells."
    out = [closed_head + (" Not in:" if lines else ""), *([""] if lines else []), *lines]
    opens = [result for result in results.values() if result["kind"] == "open" and result["cell"].startswith(layout)
             and not result["cell"].endswith("capacity")]
    lines, ahead = [], 0
    for result in opens:
        servers = result["servers"]
        others = [(servers[name]["p99"], name) for name in PEERS if name in servers]
        if not others or "lucid" not in servers:
            continue
        best, who = min(others)
        if servers["lucid"]["p99"] < best:
            ahead += 1
        else:
            median = lambda name: number(servers[name].get("p99_mid", servers[name]["p99"]))
            lines.append(f"- {result['cell'][8:]}: p99 of Lucid {number(servers['lucid']['p99'])} µs (median of the rounds "
                         f"{median('lucid')}), of {peers.TITLES[who]} {number(best)} µs ({median(who)}).")
    if opens:
        out += ["", f"p99 in the open loop: ahead of every peer in {ahead} of {len(opens)} runs." + (" Not in:" if lines else "")]
        out += ([""] if lines else []) + lines
    return "\n".join(out)


def markdown(results):
    parts = []
    for layout, title in (("L1", "One server thread on a core of its own"), ("L2", "Two server threads, both cores shared with the generator")):
        cells = closed_cells(results, layout)
        opens = any(cell.startswith(f"{layout} open") for cell in results)
        if not cells and not opens:
            continue
        parts.append(f"#### {layout}: {title}")
        parts.append(verdicts(results, layout))
        if cells:
            parts += [f"r, the part of the bare socket's requests for each second of CPU:", ratios(results, layout),
                      f"![r of all servers, {layout}](loadtest/speed-{layout}.svg)"]
        if opens:
            parts += ["Open loop, GET 64 B, 64 connections, latency from the time a request was due, lower quartile of the rounds:", open_latency(results, layout),
                      f"![latency by percentile, {layout}](loadtest/latency-{layout}.svg)"]
        if cells:
            parts += ["Closed loop, latency of a server that is never left waiting (it is mostly the 64 or 1,024 requests ahead in the queue):",
                      closed_latency(results, layout)]
        why = {}
        for result in cells:
            for name, reason in result["left_out"].items():
                why.setdefault((name, reason), []).append(result["cell"][3:])
        parts += [f"{peers.TITLES[name]} is left out of {', '.join(each)}: {reason}." for (name, reason), each in why.items()]
    return "\n\n".join(parts)


def write(results, text):
    """The pictures, and the tables into PERF.md between their marks."""
    for layout in ("L1", "L2"):
        cells = closed_cells(results, layout)
        if cells:
            panels = [(result["cell"][3:], [(name, row["r"]) for name, row in result["servers"].items() if name != "null"])
                      for result in cells]
            plot.panels_of_bars(
                os.path.join(harness.HERE, f"speed-{layout}.svg"), f"r on {layout}: requests for each second of server CPU",
                "as a part of what a bare socket serves that parses nothing; the line is that socket",
                panels, peers.NAMES[1:], peers.TITLES, columns=2)
        panels = []
        for what in ("own 50", "own 80", *SAME_RATES):
            result = results.get(f"{layout} open {what}")
            if result:
                rate = next(iter(result["servers"].values()))["rate"]
                title = f"{what[4:]} % of what it reaches itself" if what.startswith("own") else f"all at {rate:,.0f} requests a second"
                panels.append((title, [(name, row["curve"]) for name, row in result["servers"].items()]))
        if panels:
            plot.panels_of_curves(
                os.path.join(harness.HERE, f"latency-{layout}.svg"), f"Latency by percentile on {layout}, open loop, GET 64 B",
                "µs from the time a request was due; logarithmic both ways",
                panels, peers.NAMES, peers.TITLES, columns=2)
    path = os.path.join(harness.ROOT, "PERF.md")
    with open(path) as file:
        whole = file.read()
    if BEGIN not in whole or END not in whole:
        harness.fail(f"PERF.md has no place for the tables: {BEGIN} … {END}")
    pattern = re.escape(BEGIN) + ".*?" + re.escape(END)
    with open(path, "w") as file:
        file.write(re.sub(pattern, lambda _: f"{BEGIN}\n\n{text}\n\n{END}", whole, count=1, flags=re.S))
