"""Draws the pictures that PERF.md shows, as SVG."""

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
