"""Draws the pictures that PERF.md shows, as SVG."""
import math

FONT = 'font-family="Helvetica,Arial,sans-serif"'
COLORS = ["#1b6ca8", "#c9c9c9", "#e39b3c", "#7a9e5f", "#a05a8c", "#555555"]


def _escape(text):
    return str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _text(x, y, text, size=13, anchor="middle", more=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" {FONT} {more}>{_escape(text)}</text>'


def _nice_top(top):
    step = 10 ** len(str(int(top))) / 10 if top >= 1 else 0.1
    while top / step > 5:
        step *= 2
    while top / step < 3:
        step /= 2
    return step, step * -(-top // step)


def bars(path, title, note, groups, series, label="{:g}", notes=None):
    """Grouped bars. `groups`: names along the axis; `series`: (name, values); `notes`: one text a group."""
    # A letter of a note is about 6 wide.
    each = max(170, 6.2 * max(len(note) for note in notes or [""]))
    width, height, left, top, bottom = int(each * len(groups)) + 110, 400, 60, 70, 80
    plot = height - top - bottom
    step, most = _nice_top(max(value for _, values in series for value in values))
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
           f'viewBox="0 0 {width} {height}"><rect width="100%" height="100%" fill="white"/>']
    out.append(_text(left, 26, title, 17, "start", 'font-weight="bold"'))
    out.append(_text(left, 46, note, 12, "start", 'fill="#555"'))
    value = 0.0
    while value <= most * 1.0001:
        y = top + plot * (1 - value / most)
        out.append(f'<line x1="{left}" x2="{width - 20}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e4e4e4"/>')
        out.append(_text(left - 8, y + 4, label.format(value), 11, "end", 'fill="#555"'))
        value += step
    span = (width - left - 20) / len(groups)
    bar = span * 0.7 / len(series)
    for at, group in enumerate(groups):
        start = left + span * at + span * 0.15
        for number, (_, values) in enumerate(series):
            tall = plot * values[at] / most
            x, y = start + bar * number, top + plot - tall
            out.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{bar - 4:.1f}" height="{tall:.1f}" '
                       f'fill="{COLORS[number % len(COLORS)]}"/>')
            out.append(_text(x + bar / 2 - 2, y - 5, label.format(values[at]), 12))
        out.append(_text(start + span * 0.35, top + plot + 18, group))
        if notes:
            out.append(_text(start + span * 0.35, top + plot + 35, notes[at], 11, more='fill="#555"'))
    x = left
    for number, (name, _) in enumerate(series):
        out.append(f'<rect x="{x}" y="{height - 26}" width="12" height="12" fill="{COLORS[number % len(COLORS)]}"/>')
        out.append(_text(x + 18, height - 15, name, 12, "start"))
        x += 30 + 8 * len(name)
    out.append("</svg>\n")
    with open(path, "w") as file:
        file.write("\n".join(out))


def _document(path, width, height, title, note, body):
    head = (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
            '<rect width="100%" height="100%" fill="white"/>')
    texts = [_text(20, 28, title, 17, "start", 'font-weight="bold"'), _text(20, 48, note, 12, "start", 'fill="#555"')]
    with open(path, "w") as file:
        file.write("\n".join([head, *texts, *body, "</svg>\n"]))


def _hue(name, names):
    """One colour for a name in all panels; grey for what is no server but a measure."""
    wheel = {"null": "#b5b5b5", "lucid": "#1b6ca8", "lucid-jwt": "#6fb1e0"}
    rest = ["#e39b3c", "#c8503c", "#7a9e5f", "#a05a8c", "#6b5b4b"]
    return wheel.get(name) or rest[[each for each in names if each not in wheel].index(name) % len(rest)]


def panels_of_bars(path, title, note, panels, names, titles, columns):
    """Lying bars. `panels`: (title, [(name, value)]); a line stands at 1."""
    wide, bar, left, gap = 440, 17, 130, 34
    tall = bar * len(names) + gap
    most = max([1.0] + [value for _, rows in panels for _, value in rows])
    scale = (wide - left - 60) / most
    body = []
    for at, (head, rows) in enumerate(panels):
        x, y = 20 + wide * (at % columns), 70 + tall * (at // columns)
        found = dict(rows)
        body.append(_text(x, y + 11, head, 13, "start", 'font-weight="bold"'))
        for number, name in enumerate(names):
            top = y + 18 + bar * number
            body.append(_text(x + left - 8, top + 11, titles[name], 11, "end"))
            if name not in found:
                body.append(_text(x + left + 4, top + 11, "not measured", 10, "start", 'fill="#999"'))
                continue
            body.append(f'<rect x="{x + left}" y="{top + 1}" width="{found[name] * scale:.1f}" height="{bar - 4}" '
                        f'fill="{_hue(name, names)}"/>')
            body.append(_text(x + left + found[name] * scale + 5, top + 11, f"{found[name]:.2f}", 11, "start"))
        line = x + left + scale
        body.append(f'<line x1="{line:.1f}" x2="{line:.1f}" y1="{y + 16}" y2="{y + 18 + bar * len(names)}" stroke="#999" '
                    'stroke-dasharray="3 3"/>')
    height = 80 + tall * -(-len(panels) // columns)
    _document(path, 20 + wide * columns, height, title, note, body)


def panels_of_curves(path, title, note, panels, names, titles, columns):
    """Latency by percentile. `panels`: (title, [(name, [(percentile, microseconds)])])."""
    wide, tall, left, top = 480, 300, 60, 30
    across, down = wide - left - 30, tall - top - 45
    ticks = [0, 50, 90, 99, 99.9, 99.99]
    nines = lambda percentile: -math.log10(1 - percentile / 100)
    every = [us for _, rows in panels for _, curve in rows for percentile, us in curve if percentile <= ticks[-1]]
    low, high = max(0, math.floor(math.log10(min(every)))), math.ceil(math.log10(max(every)))
    body = []
    for at, (head, rows) in enumerate(panels):
        x, y = 20 + wide * (at % columns) + left, 70 + tall * (at // columns) + top
        place = lambda percentile, us: (x + across * nines(percentile) / nines(ticks[-1]),
                                        y + down * (high - math.log10(us)) / (high - low))
        body.append(_text(x, y - 10, head, 13, "start", 'font-weight="bold"'))
        for power in range(low, high + 1):
            for step in (1, 2, 5) if power < high else (1,):
                level = place(0, step * 10 ** power)[1]
                shade = "#dddddd" if step == 1 else "#f1f1f1"
                body.append(f'<line x1="{x}" x2="{x + across}" y1="{level:.1f}" y2="{level:.1f}" stroke="{shade}"/>')
                if step == 1:
                    body.append(_text(x - 6, level + 4, f"{10 ** power:,}", 11, "end", 'fill="#555"'))
        for tick in ticks:
            column = place(tick, 10 ** low)[0]
            body.append(f'<line x1="{column:.1f}" x2="{column:.1f}" y1="{y}" y2="{y + down}" stroke="#eeeeee"/>')
            body.append(_text(column, y + down + 16, f"{tick:g} %", 11, more='fill="#555"'))
        for name, curve in rows:
            points = [place(percentile, us) for percentile, us in curve if percentile <= ticks[-1]]
            line = " ".join(f"{across_at:.1f},{down_at:.1f}" for across_at, down_at in points)
            width = 2.6 if name.startswith("lucid") else 1.5
            dash = ' stroke-dasharray="4 3"' if name == "null" else ""
            body.append(f'<polyline points="{line}" fill="none" stroke="{_hue(name, names)}" stroke-width="{width}"{dash}/>')
    height = 90 + tall * -(-len(panels) // columns) + 20
    x = 20
    shown = {name for _, rows in panels for name, _ in rows}
    for name in (name for name in names if name in shown):
        body.append(f'<rect x="{x}" y="{height - 24}" width="12" height="12" fill="{_hue(name, names)}"/>')
        body.append(_text(x + 18, height - 13, titles[name], 12, "start"))
        x += 38 + 8 * len(titles[name])
    _document(path, 20 + wide * columns, height, title, note, body)
